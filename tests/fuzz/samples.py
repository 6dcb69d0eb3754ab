"""Small sound files of each format, which tests damage, and what may come of that."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from scoreline.lake.files.footer import Thrift
from tests.inputs import frame, to_csv, to_examples, to_jsonl, write_bytes

ROWS = 40
_DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


class Sample(NamedTuple):
    """A dataset, and the one file of it that is damaged.

    Attributes:
      name: its name.
      write: writes the dataset below a folder, and returns the file.
      keeps_rows: what the format promises about rows that are read from a damaged file. `all`: they
        are the rows of the sound file. `first`: they are the first of them. `meant`: they are those
        that another parser finds in the damaged file. "": the format has no checksums, so that
        other values can look sound.
      types: the types of `--schema`.
    """

    name: str
    write: Callable[[Path], Path]
    keeps_rows: str = ""
    types: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name


def _plain(rows: int = ROWS) -> pa.Table:
    number = np.arange(rows)
    return pa.table(
        {
            "id": number,
            "x": pa.array(number / 3, pa.float32()),
            "s": [f"word {i % 7}" for i in range(rows)],
            "b": number % 2 == 0,
            "at": pa.array([_DAY + datetime.timedelta(hours=i) for i in range(rows)]),
            "day": pa.array([_DAY.date()] * rows),
        }
    )


def _nested() -> pa.Table:
    number = range(ROWS)
    return pa.table(
        {
            "id": number,
            "l": [[i, i + 1] if i % 5 else None for i in number],
            "ll": [[[i], [i, None]] if i % 4 else None for i in number],
            "ls": [[{"p": i, "q": f"z{i}"}] for i in number],
            "m": pa.array([[("k", i)] for i in number], pa.map_(pa.string(), pa.int64())),
            "st": [{"u": {"v": [i]}, "w": f"q{i}"} for i in number],
            "f": pa.array([[1.0, 2.0], [3.0, 4.0]] * (ROWS // 2), pa.list_(pa.float32(), 2)),
            "fn": pa.array([[1.0, 2.0], None] * (ROWS // 2), pa.list_(pa.float32(), 2)),
        }
    )


def _odd() -> pa.Table:
    number = range(ROWS)
    tens = [decimal.Decimal(i) / 4 for i in number]
    return pa.table(
        {
            "d": pa.array(tens, pa.decimal128(30, 2)),
            "d9": pa.array(map(decimal.Decimal, number), pa.decimal128(9, 0)),
            "h": pa.array(np.arange(ROWS), pa.float32()).cast(pa.float16()),
            "u": pa.array([i.to_bytes(16) for i in number], pa.uuid()),
            "fb": pa.array([b"abcd", None] * (ROWS // 2), pa.binary(4)),
            "c": pa.array(["a", "b"] * (ROWS // 2)).dictionary_encode(),
            "lt": pa.array([f"x{i}" for i in number], pa.large_string()),
            "v": pa.array([f"x{i}" for i in number], pa.string_view()),
            "by": pa.array([bytes([i]) for i in number], pa.binary()),
            "n32": pa.array(number, pa.uint32()),
            "ns": pa.array([i * 1000 for i in number], pa.timestamp("ns", "Europe/Paris")),
        }
    )


def _parquet(table: pa.Table, **options: Any) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        sink = io.BytesIO()
        pq.write_table(table, sink, **options)
        return write_bytes(root / "date=1/0.parquet", sink.getvalue())

    return write


write_checksums = _parquet(_plain(), compression="none", write_page_checksum=True)
_DELTA_ENCODED = {"id": "DELTA_BINARY_PACKED", "s": "DELTA_BYTE_ARRAY", "x": "BYTE_STREAM_SPLIT"}
_PARQUET = {
    "snappy": _parquet(_plain()),
    "plain": _parquet(_plain(), compression="none", use_dictionary=False),
    "pages-v2": _parquet(_plain(), compression="gzip", data_page_version="2.0"),
    "encoded": _parquet(
        _plain(), compression="none", use_dictionary=False, column_encoding=_DELTA_ENCODED
    ),
    "int96": _parquet(_plain(), compression="none", use_deprecated_int96_timestamps=True),
    "groups": _parquet(_plain(), row_group_size=9, data_page_size=64, write_page_index=True),
    "nested": _parquet(_nested(), compression="none"),
    "nested-groups": _parquet(_nested(), row_group_size=15, data_page_version="2.0"),
    "odd": _parquet(_odd(), compression="none"),
    "odd-plain": _parquet(_odd(), compression="lz4", use_dictionary=False),
    "checksums": write_checksums,
}

_TEXT_TYPES = (("id", "int64"), ("x", "float32"), ("s", "string"), ("b", "bool"))


def _text(suffix: str, data: bytes) -> Callable[[Path], Path]:
    return lambda root: write_bytes(root / f"date=1/0.{suffix}", data)


def _quoted() -> bytes:
    rows = "".join(f'{i},{i}.5,"a, ""b""\n{i}",true\n' for i in range(ROWS))
    return f"id,x,s,b\n{rows}".encode()


def _records() -> bytes:
    return b"".join(map(frame, to_examples(_plain().select(["id", "x", "s"]))))


def _delta(damaged: str) -> Callable[[Path], Path]:
    """Return a writer of a table of two versions and a checkpoint, and of the file to damage."""

    def write(root: Path) -> Path:
        for part in (0, 1):
            rows = _plain().slice(part * 20, 20).append_column("date", pa.array(["1"] * 20))
            write_deltalake(str(root), rows, partition_by=["date"], mode="append")
        if "checkpoint" in damaged:
            DeltaTable(str(root)).create_checkpoint()
        return sorted(root.glob(damaged))[-1]

    return write


_CSV, _JSON = (
    to_csv(_plain().select(["id", "x", "s", "b"])),
    to_jsonl(_plain().select([0, 1, 2, 3])),
)
SAMPLES = (
    *(Sample(f"parquet-{name}", write) for name, write in _PARQUET.items()),
    Sample("csv", _text("csv", _CSV), "meant", _TEXT_TYPES),
    Sample("csv-quoted", _text("csv", _quoted()), "meant", _TEXT_TYPES),
    Sample("csv-inferred", _text("csv", _CSV)),
    Sample("csv-gz", _text("csv.gz", _CSV), "all", _TEXT_TYPES),
    Sample("jsonl", _text("jsonl", _JSON), "meant", _TEXT_TYPES),
    Sample("jsonl-inferred", _text("jsonl", _JSON)),
    Sample("json-gz", _text("json.gz", _JSON), "all", _TEXT_TYPES),
    Sample("tfrecord", _text("tfrecord", _records()), "first"),
    Sample("tfrecord-gz", _text("tfrecord.gz", _records()), "all"),
    Sample("delta-log", _delta("_delta_log/*.json")),
    Sample("delta-checkpoint", _delta("_delta_log/*.checkpoint.parquet")),
    Sample("delta-last-checkpoint", _delta("_delta_log/_last_checkpoint")),
    Sample("delta-file", _delta("date=1/*.parquet")),
)


def rows_meant(path: Path) -> list[dict[str, Any]]:
    """Return the rows that a parser of Python's finds in a text file; none if it finds an error."""
    text = path.read_bytes().decode(errors="replace")
    try:
        if path.suffix == ".csv":
            return list(_csv_rows(text))
        return list(_json_rows(text))
    except (ValueError, csv.Error, RecursionError):
        return []


def _json_rows(text: str) -> Iterator[dict[str, Any]]:
    """Yield objects, whatever space is between and within them: a line break cuts none in two."""
    decoder = json.JSONDecoder()
    at = len(text) - len(text.lstrip())
    while at < len(text):
        row, at = decoder.raw_decode(text, at)
        yield row
        at += len(text[at:]) - len(text[at:].lstrip())


def _csv_rows(text: str) -> Iterator[dict[str, Any]]:
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    for row in rows[1:]:
        if len(row) != len(rows[0]):
            raise ValueError("a row has another number of fields")
        yield dict(zip(rows[0], row, strict=True))


def find_pages(data: bytes) -> list[tuple[int, int]]:
    """Return where the content of each page of a Parquet file begins and ends."""
    pages = []
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    for column in range(metadata.num_columns):
        chunk = metadata.row_group(0).column(column)
        at = chunk.dictionary_page_offset or chunk.data_page_offset
        end = at + chunk.total_compressed_size
        while at < end:
            start, size = _read_header(data, at)
            pages.append((start, start + size))
            at = start + size
    return pages


def _read_header(data: bytes, at: int) -> tuple[int, int]:
    """Return where a page begins behind its header, and how long it is."""
    thrift = Thrift(data[at:])
    size = 0
    for field, kind in thrift.fields():
        if field == 3:
            size = thrift.integer()
        else:
            thrift.skip(kind)
    return at + thrift.position, size
