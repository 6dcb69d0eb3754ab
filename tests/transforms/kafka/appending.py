"""Rows of a stream, and the table that they are appended to."""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable

from scoreline.transforms.kafka.append import (
    TableSpec,
)
from scoreline.transforms.kafka.encode import SOURCE_FIELDS, to_columns
from scoreline.transforms.kafka.watched_table import WatchedTable
from tests.fakes import read_scores

SCHEMA = pa.schema([("id", pa.int64()), ("y", pa.float32()), ("model_digest", pa.string())])
NOON_MS = 1_795_521_600_000  # 2026-11-24T12:00:00Z


def make_spec(output, group="g", flush_seconds=60.0):
    return TableSpec(
        output=str(output),
        schema=pa.schema([*SCHEMA, *SOURCE_FIELDS]),
        topic="t",
        topic_id="topic-1",
        group=group,
        flush_seconds=flush_seconds,
    )


def make_rows(partition, first, stop, now_ms=NOON_MS):
    """Return scored rows for the records of a partition between two offsets."""
    offsets = list(range(first, stop))
    scored = pa.RecordBatch.from_pydict(
        {
            "id": pa.array([1000 * partition + o for o in offsets], pa.int64()),
            "_topic": pa.array(["t"] * len(offsets)).dictionary_encode(),
            "_partition": pa.array([partition] * len(offsets), pa.int32()),
            "_offset": pa.array(offsets, pa.int64()),
            "_time_ms": pa.array([5 if o else -1 for o in offsets], pa.int64()),
            "_key": pa.array([None] * len(offsets), pa.binary()),
            "y": pa.array([o / 2 for o in offsets], pa.float32()),
            "model_digest": pa.array(["d"] * len(offsets)).dictionary_encode(),
        }
    )
    return to_columns(scored, now_ms)


def opened(spec):
    return DeltaTable(spec.output)


def watched(spec):
    return WatchedTable(spec.output, spec.schema)


def ids_of(spec):
    return sorted(read_scores(spec.output)["id"].to_pylist())
