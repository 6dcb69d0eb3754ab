"""What load the demo holds: `make load-test`, about 15 minutes, or `make load-test-flink`.

Prepares flights and model, then tests the stream on a broker and the batch on this machine, or the
stream on a Flink cluster.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from demo.data import prepare_flights
from demo.model import train_flights
from demo.run_local import DATASET, MODEL
from demo.run_stream import types_of

_USUAL = ("stream", "batch")
PROFILES = {name: Path(f"demo/load_test_{name}.yaml") for name in (*_USUAL, "flink", "flink_fixed")}
SCHEMA = Path("build/flights.schema.json")
ARRIVALS = Path("build/arrivals.parquet")


def prepare() -> None:
    """Make the data, the model, the schema of records, and the flights' own arrivals."""
    prepare_flights(DATASET)
    train_flights(DATASET, MODEL)
    files = sorted(Path(DATASET).glob("*=*/*.parquet"))
    SCHEMA.write_text(types_of(pq.read_schema(files[0])))
    pq.write_table(read_arrivals(files), ARRIVALS)


def read_arrivals(files: Sequence[Path]) -> pa.Table:
    """Return when flights were scheduled to depart, to the minute: the trace of a load."""
    parts = [pq.ParquetFile(file).read(["time_hour", "minute"]) for file in files]
    flights = pa.concat_tables(parts)
    minutes = pc.multiply(flights["minute"].cast(pa.int64()), 60_000_000)
    return pa.table({"at": pc.add(flights["time_hour"], minutes.cast(pa.duration("us")))})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tests; return the exit code of the first that does not pass."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--only", choices=tuple(PROFILES), help="run only this one")
    given, further = parser.parse_known_args(argv)
    prepare()
    codes = []
    for name in (given.only,) if given.only else _USUAL:
        path = PROFILES[name]
        profile = yaml.safe_load(path.read_text())
        if "stream" in profile:
            profile["stream"]["brokers"] = given.brokers
        used = Path("build") / path.name
        used.write_text(yaml.safe_dump(profile, sort_keys=False))
        command = [sys.executable, "-m", "scoreline", "load-test", f"--profile={used}", *further]
        codes.append(subprocess.run(command, check=False).returncode)
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
