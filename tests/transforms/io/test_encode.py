from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pyarrow as pa

from transforms.io.encode import to_json_values


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
