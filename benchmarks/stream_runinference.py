"""Beam's RunInference with `max_batch_duration_secs`, between our Kafka source and sink.

    python -m benchmarks.stream_runinference BROKERS TOPIC OUTPUT_TOPIC GROUP [beam options]

Source and sink are as cheap as possible: our ReadKafka, and a producer that is flushed once per
bundle. Offsets are not committed. RunInference collects batches in state, so it needs a runner that
passes elements on while the source still reads: Prism or Flink.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import apache_beam as beam
import orjson
import pyarrow as pa
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from benchmarks.beam_runinference import RowHandler
from benchmarks.data import KEY
from benchmarks.peer import parse_fill, read_signature
from benchmarks.stream_load import DUE, workload
from scoreline.lake.elements import RecordKey
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.read import ReadKafka
from scoreline.transforms.kafka.reader import TopicSpec
from scoreline.transforms.kafka.records import VALUE

# The minimum that RunInference accepts is one second.
_BATCH_SECONDS = 1


def _to_rows(element: tuple[RecordKey, pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for value in element[1].column(VALUE).to_pylist():
        yield orjson.loads(value)


class _Send(beam.DoFn):
    def __init__(self, brokers: str, topic: str) -> None:
        self._brokers, self._topic = brokers, topic

    def setup(self) -> None:
        from confluent_kafka import Producer  # a C class, which cannot be pickled

        self._producer = Producer({"bootstrap.servers": self._brokers, "linger.ms": 2})

    def process(self, result: Any) -> None:
        row, outputs = result.example, result.inference
        score = {KEY: row[KEY], DUE: row[DUE]} | {n: float(v) for n, v in outputs.items()}
        self._producer.produce(self._topic, key=str(row[KEY]), value=orjson.dumps(score))
        self._producer.poll(0)

    def finish_bundle(self) -> None:
        self._producer.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Score a topic until the process is stopped."""
    brokers, topic, output, group, *flags = sys.argv[1:] if argv is None else argv
    work = workload(Path("build"))
    model = str(work.models["small"])
    inputs, _ = read_signature(model)
    fills = {name: parse_fill(inputs[name], text) for name, text in work.fills.items()}
    handler = RowHandler(model, inputs, fills, min_batch_rows=1, max_batch_seconds=_BATCH_SECONDS)
    options = PipelineOptions(flags)
    options.view_as(StandardOptions).streaming = True
    pipeline = beam.Pipeline(options=options)
    spec = TopicSpec(connection=Connection(brokers=brokers), topic=topic, group=group)
    _ = (
        pipeline
        | "ReadKafka" >> ReadKafka(spec=spec)
        | "ToRows" >> beam.FlatMap(_to_rows)
        | "Predict" >> RunInference(handler)
        | "Send" >> beam.ParDo(_Send(brokers, output))
    )
    result = pipeline.run()

    def end(number: int, frame: FrameType | None) -> None:
        result.cancel()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
