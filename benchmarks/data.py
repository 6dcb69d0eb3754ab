"""The input of all designs: the demo's flights, repeated up to any number of rows."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

KEY = "flight_id"
KEEP = ("carrier", "flight", "origin", "dest", "sched_dep_time")
# Increase it when the tiling of the same source changes.
_FORMAT = 3
_FIRST_DATE = datetime.date(2020, 1, 1)
_ROW_GROUP_ROWS = 131_072


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """A data set and the models to score it with.

    Attributes:
      flights: the data set before tiling, one folder per day.
      models: SavedModel directories, by their name in the report.
      keep: columns to copy to the output, besides the key.
      fills: values that replace nulls, by input.
    """

    flights: Path
    models: dict[str, Path]
    keep: tuple[str, ...]
    fills: dict[str, str]


def tile(source: Path, cache: Path, row_counts: Sequence[int]) -> dict[int, Path]:
    """Return, for each number of rows, a data set that repeats the source up to that many rows.

    Each repetition is one partition of one file, with its own date and increasing keys. The last
    one is cut. A smaller data set is a prefix of a larger one. Encodings are those of the source.
    Data sets in the cache are reused if the content of the source is the same.
    """
    files = sorted(source.glob("*=*/*.parquet"))
    if not files:
        raise FileNotFoundError(f"Expected {source}/<column>=<value>/*.parquet, got no such file")
    digest = _digest(files)
    folders = {rows: cache / f"tiles-{digest}-{rows}" for rows in row_counts}
    missing = {rows: folder for rows, folder in folders.items() if not folder.exists()}
    if missing:
        whole = pa.concat_tables(pq.ParquetFile(file).read() for file in files)
        whole = whole.sort_by(KEY).combine_chunks()
        for rows, folder in missing.items():
            _write(whole, folder, rows)
    return folders


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256(f"format {_FORMAT}".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _write(whole: pa.Table, folder: Path, rows: int) -> None:
    """Write a data set; the folder appears under its name only when it is complete."""
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    at = whole.schema.get_field_index(KEY)
    strings = [field.name for field in whole.schema if pa.types.is_string(field.type)]
    first, last = pc.min(whole[KEY]).as_py(), pc.max(whole[KEY]).as_py()
    for start in range(0, rows, whole.num_rows):
        number = start // whole.num_rows
        keys = pc.add(whole[KEY], pa.scalar(number * (last - first + 1), whole[KEY].type))
        tiled = whole.set_column(at, KEY, keys).slice(0, rows - start)
        date = _FIRST_DATE + datetime.timedelta(days=number)
        path = partial / f"date={date}" / "flights.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(
            tiled,
            path,
            row_group_size=_ROW_GROUP_ROWS,
            compression="zstd",
            use_dictionary=strings,
        )
    partial.rename(folder)


def demo_workload(build: Path) -> Workload:
    """Return the demo's data and model, and a model of about 50 times the work.

    Missing parts are created, which takes a minute each and imports TensorFlow.
    """
    from demo.data import prepare_flights
    from demo.model import FILLS, export_large, train_flights

    flights = build / "flights"
    models = {"small": build / "models" / "flights", "large": build / "models" / "flights_large"}
    prepare_flights(str(flights))
    train_flights(str(flights), str(models["small"]))
    export_large(str(flights), str(models["large"]))
    fills = {name: str(value) for name, value in FILLS.items()}
    return Workload(flights=flights, models=models, keep=KEEP, fills=fills)
