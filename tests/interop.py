"""Rows of every type that tables share, and how other programs write and read them."""

from __future__ import annotations

import datetime
import decimal
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from scoreline.lake.table.scores import open_scores

# Partition values that programs escape in folders, each in its own way.
VALUES = (
    *("a b", "a/b", "R&D", "Zoë", "100%", "a=b", "*", "..", "2024-01-01 00:00:00", "01"),
    *("a%20b", "😀", "a\\b"),
)
UTC = datetime.UTC
FIELDS = pa.schema(
    [
        ("id", pa.int64()),
        ("x", pa.float32()),
        ("n", pa.int64()),
        ("s", pa.string()),
        ("at", pa.timestamp("us")),
        ("at_utc", pa.timestamp("us", "UTC")),
        ("day", pa.date32()),
        ("price", pa.decimal128(18, 4)),
        ("flag", pa.bool_()),
        ("small", pa.int32()),
        ("double", pa.float64()),
        ("text", pa.string()),
        ("kind", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("user", pa.struct([("age", pa.int64()), ("name", pa.string())])),
        ("p", pa.string()),
    ]
)
# Columns that a model does not read; they are kept.
KEPT = tuple(name for name in FIELDS.names if name not in ("id", "x", "n", "s", "p"))
NESTED = ("tags", "user")


def make_table() -> pa.Table:
    """Return two rows for each partition value; every second value of a kept column is a null."""
    rows = [_row(id_, VALUES[id_ // 2]) for id_ in range(2 * len(VALUES))]
    return pa.Table.from_pylist(rows, FIELDS)


def _row(id_: int, p: str) -> dict[str, Any]:
    at = datetime.datetime(1900 + 5 * id_, 3, 31, 2, 30, 0, 123456)  # noqa: DTZ001  no zone is meant
    row = {
        "at": at,
        "at_utc": at.replace(tzinfo=UTC),
        "day": at.date(),
        "price": decimal.Decimal(-12345678901234) / 10000 + id_,
        "flag": id_ % 4 == 0,
        "small": id_ - 2**31,
        "double": 0.1 + id_,
        "text": f"ä\n'\"{id_}",
        "kind": "xyz"[id_ // 2 % 3],
        "tags": ["a", None, str(id_)],
        "user": {"age": id_, "name": None if id_ % 8 else "ü"},
    }
    known = {"id": id_, "x": id_ / 4, "n": id_ % 9, "s": "ab"[id_ % 2], "p": p}
    return known | (row if id_ % 2 == 0 else dict.fromkeys(row))


def rows_by_id(rows: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return rows by id as plain Python values, zoned times in UTC; without the model's columns."""
    names = [name for name in FIELDS.names if name not in ("x", "n", "s")]
    return {row["id"]: {name: _plain(row[name]) for name in names if name in row} for row in rows}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if value is pandas.NA or value is pandas.NaT:
        return None
    if isinstance(value, pandas.Timestamp):
        value = value.to_pydatetime()
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return value


def write_duckdb(rows: pa.Table, folder: Path) -> None:
    """Write by DuckDB, in its default form."""
    _copy(rows, folder, "")


def write_duckdb_v2(rows: pa.Table, folder: Path) -> None:
    """Write by DuckDB with the encodings of the second version of Parquet, in zstd."""
    _copy(rows, folder, ", PARQUET_VERSION V2, COMPRESSION zstd")


def _copy(rows: pa.Table, folder: Path, options: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'America/New_York'")
    connection.register("rows", rows)
    connection.execute(f"COPY rows TO '{folder}' (FORMAT parquet, PARTITION_BY (p){options})")


def write_polars(rows: pa.Table, folder: Path) -> None:
    """Write by Polars, with a categorical."""
    frame = polars.from_arrow(rows).with_columns(polars.col("kind").cast(polars.Categorical))
    frame.write_parquet(folder, partition_by="p")


def write_pandas(rows: pa.Table, folder: Path) -> None:
    """Write by pandas, with a categorical."""
    frame = rows.to_pandas(types_mapper=_PANDAS.get)
    frame["kind"] = frame["kind"].astype("category")
    frame.to_parquet(folder, partition_cols=["p"])


# Types of pandas that hold nulls. Of decimal objects pandas would guess the precision, by file.
_PANDAS = {
    pa.int32(): pandas.Int32Dtype(),
    pa.bool_(): pandas.BooleanDtype(),
    pa.decimal128(18, 4): pandas.ArrowDtype(pa.decimal128(18, 4)),
}
# fastparquet writes dates as times, decimals as floats, and no nested value of these.
_FASTPARQUET = ("day", "price", *NESTED)


def write_fastparquet(rows: pa.Table, folder: Path) -> None:
    """Write by fastparquet, with a categorical. It escapes no partition value."""
    folder.mkdir(parents=True)
    plain = [not any(escaped in p for escaped in "/%\\") for p in rows["p"].to_pylist()]
    frame = rows.filter(pa.array(plain)).drop_columns(list(_FASTPARQUET))
    frame = frame.to_pandas(types_mapper=_PANDAS.get)
    frame["kind"] = frame["kind"].astype("category")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses what pandas 3.1 deprecates
        fastparquet.write(
            str(folder), frame, partition_on=["p"], file_scheme="hive", write_index=False
        )


def write_arrow(rows: pa.Table, folder: Path) -> None:
    """Write by Arrow, with a dictionary."""
    kind = rows.schema.get_field_index("kind")
    rows = rows.set_column(kind, "kind", rows["kind"].dictionary_encode())
    pq.write_to_dataset(rows, folder, partition_cols=["p"])


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "duckdb": write_duckdb,
    "duckdb_v2": write_duckdb_v2,
    "polars": write_polars,
    "pandas": write_pandas,
    "fastparquet": write_fastparquet,
    "arrow": write_arrow,
}


def read_by_arrow(output: str) -> list[dict[str, Any]]:
    """Read a table as an Arrow dataset."""
    return open_scores(output).to_table().to_pylist()


def read_by_deltalake(output: str) -> list[dict[str, Any]]:
    """Read a table by deltalake."""
    return DeltaTable(output).to_pyarrow_table().to_pylist()


def read_by_polars(output: str) -> list[dict[str, Any]]:
    """Read a table by Polars itself, which takes partition values from paths."""
    return polars.read_delta(output).to_dicts()


def read_by_pandas(output: str) -> list[dict[str, Any]]:
    """Read a table into a data frame of pandas, in types that hold nulls."""
    return DeltaTable(output).to_pandas(types_mapper=pandas.ArrowDtype).to_dict("records")


def read_by_duckdb(output: str) -> list[dict[str, Any]]:
    """Read a table by DuckDB as an Arrow dataset."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'America/New_York'")
    connection.register("scores", open_scores(output))
    return connection.sql("SELECT * FROM scores").to_arrow_table().to_pylist()


def read_files_by_duckdb(output: str) -> list[dict[str, Any]]:
    """Read a table's live files by DuckDB, which takes partition values from paths."""
    query = "SELECT * FROM read_parquet(?, hive_partitioning=true, hive_types_autocast=false)"
    found = duckdb.connect().sql(query, params=[DeltaTable(output).file_uris()])
    return found.to_arrow_table().to_pylist()


READERS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "arrow": read_by_arrow,
    "deltalake": read_by_deltalake,
    "polars": read_by_polars,
    "pandas": read_by_pandas,
    "duckdb": read_by_duckdb,
    "duckdb_by_path": read_files_by_duckdb,
}
