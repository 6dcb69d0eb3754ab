from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pyarrow as pa

from scoreline.transforms.kafka.encode import to_json_values


def test_each_row_is_one_object_with_its_source_and_times():
    rows = pa.RecordBatch.from_pydict(
        {
            "id": [1, 2],
            "at": [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None],
            "sum": [Decimal("1.50"), None],
            "_topic": pa.array(["t", "t"]).dictionary_encode(),
            "_partition": [0, 3],
            "_offset": [10, 11],
            "_time_ms": [5, 6],
            "_key": [b"\xff", None],
            "y": [0.5, float("nan")],
            "pair": [[1.0, 2.0], [3.0, 4.0]],
            "raw": [b"\xff", b""],
            "model_digest": pa.array(["d", "d"]).dictionary_encode(),
        }
    )
    first, second = (json.loads(value) for value in to_json_values(rows, 7))
    assert first == {
        "id": 1,
        "at": "2026-01-02T00:00:00+00:00",
        "sum": "1.50",
        "source_topic": "t",
        "source_partition": 0,
        "source_offset": 10,
        "event_time_ms": 5,
        "y": 0.5,
        "pair": [1.0, 2.0],
        "raw": "/w==",
        "model_digest": "d",
        "scored_time_ms": 7,
    }
    assert second["y"] is None
    assert second["at"] is None


def test_dictionaries_are_written_as_their_values_whatever_they_hold():
    kinds = {
        "of_two": pa.array(["a", "b", None]).dictionary_encode(),
        "of_one": pa.array(["a", "a", "a"]).dictionary_encode(),
        "one_or_null": pa.array(["a", None, "a"]).dictionary_encode(),
        "null_inside": pa.DictionaryArray.from_arrays([0, 0, 0], pa.array([None], pa.string())),
        "bytes": pa.array([b"\xff", b"\xff", b"\xff"]).dictionary_encode(),
    }
    rows = pa.RecordBatch.from_pydict({"id": [1, 2, 3], **kinds})
    found = [json.loads(value) for value in to_json_values(rows, 7)]
    expected = {name: column.to_pylist() for name, column in kinds.items()}
    expected["bytes"] = ["/w=="] * 3
    assert {name: [row[name] for row in found] for name in kinds} == expected
    only = [json.loads(v) for v in to_json_values(rows.select(["of_one"]), 7)]
    assert only == [{"of_one": "a", "scored_time_ms": 7}] * 3
    assert to_json_values(rows.slice(0, 0), 7) == []
