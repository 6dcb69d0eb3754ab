"""The minimal loop that scores a stream: consume, call the signature, produce, commit.

    python -m benchmarks.stream_bare BROKERS TOPIC OUTPUT_TOPIC GROUP

It checks nothing. One bad record ends it, and a kill loses or duplicates records.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.data import KEY, Workload
from benchmarks.stream_load import DUE, workload

_BATCH = 8192


def bare_loop(brokers: str, topic: str, output: str, group: str, work: Workload) -> None:
    """Consume, call the signature, produce and commit, without any check."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(work.models["small"])).signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    fills = work.fills
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False}
        | {"auto.offset.reset": "earliest"}
    )
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 2})
    consumer.subscribe([topic])
    committed = time.monotonic()
    while True:
        first = consumer.poll(0.5)
        if first is None:
            continue
        polled: list[Any] = [first, *consumer.consume(_BATCH - 1, 0)]
        messages = [m for m in polled if m.error() is None]
        rows = [orjson.loads(m.value()) for m in messages]
        columns = {}
        for name, spec in specs.items():
            fill: Any = fills.get(name)
            if fill is not None and spec.dtype != tf.string:
                fill = spec.dtype.as_numpy_dtype(float(fill))
            values = [row[name] if row[name] is not None else fill for row in rows]
            columns[name] = tf.reshape(
                tf.constant(values, spec.dtype), [-1, *(1 for _ in spec.shape[1:])]
            )
        outputs = {
            name: value.numpy().reshape(-1).tolist() for name, value in serve(**columns).items()
        }
        for at, (message, row) in enumerate(zip(messages, rows, strict=True)):
            score = {KEY: row[KEY], DUE: row[DUE]} | {n: v[at] for n, v in outputs.items()}
            producer.produce(output, key=message.key(), value=orjson.dumps(score))
        producer.poll(0)
        if time.monotonic() - committed > 0.1:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed = time.monotonic()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    brokers, topic, output, group = sys.argv[1:]
    bare_loop(brokers, topic, output, group, workload(Path("build")))
