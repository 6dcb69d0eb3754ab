"""Scored rows → values of Kafka records."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pyarrow as pa

from transforms.io.kafka import KEY, OFFSET, PARTITION, TIME_MS, TOPIC

# What a scored batch carries beside the keys, for the sink.
CARRIED = (TOPIC, PARTITION, OFFSET, TIME_MS, KEY)
# How these are called in a value.
_NAMES = {TOPIC: "source_topic", PARTITION: "source_partition", OFFSET: "source_offset"}
EVENT_TIME, SCORED_TIME = "event_time_ms", "scored_time_ms"
VALUE_NAMES = (*_NAMES.values(), EVENT_TIME, SCORED_TIME)


def to_json_values(scored: pa.RecordBatch, now_ms: int) -> list[bytes]:
    """Return one JSON object for each row of a scored batch.

    It holds keys, kept columns, outputs, `model_digest`, `source_topic`, `source_partition`,
    `source_offset`, `event_time_ms` (the source record's) and `scored_time_ms`. NaN and infinite
    numbers, which JSON does not have, are null; bytes are base64.
    """
    names: list[str] = []
    columns: list[list[Any]] = []
    for name, column in zip(scored.schema.names, scored.columns, strict=True):
        if name != KEY:
            names.append(_NAMES.get(name, EVENT_TIME if name == TIME_MS else name))
            columns.append(column.to_pylist())
    names.append(SCORED_TIME)
    columns.append([now_ms] * scored.num_rows)
    return [
        orjson.dumps(dict(zip(names, row, strict=True)), default=_to_json)
        for row in zip(*columns, strict=True)
    ]


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)  # decimals
