"""Read a table by DuckDB's own extension for Delta Lake, in a process with its own DuckDB.

    python -m tests.duckdb_delta TABLE ROWS COUNTS VALUE …

ROWS is a Parquet file of all rows; COUNTS is a JSON file of how many rows have each value of `p`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq


def main() -> None:
    """Read all rows, then filter."""
    table, rows, counts, *values = sys.argv[1:]
    folder = Path(importlib.util.find_spec("duckdb_extension_delta").origin).parent
    (extension,) = folder.rglob("delta.duckdb_extension")
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    connection.execute(f"LOAD '{extension}'")
    found = connection.execute("SELECT * FROM delta_scan(?)", [table])
    pq.write_table(found.fetch_arrow_table(), rows)
    query = "SELECT count(*) FROM delta_scan(?) WHERE p = ?"
    held = {value: connection.execute(query, [table, value]).fetchone()[0] for value in values}
    Path(counts).write_text(json.dumps(held))


if __name__ == "__main__":
    main()
