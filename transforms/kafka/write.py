"""Scores and dead letters → Kafka, with the offsets of their source records."""

from __future__ import annotations

import dataclasses
import time

import apache_beam as beam
import pyarrow as pa

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import RecordKey
from scoreline.lake.table.letters import to_dead_letters
from scoreline.models.fit import DIGEST_COLUMN
from scoreline.transforms import metrics, stage_times
from scoreline.transforms.bundle_metrics import BundleMetrics
from scoreline.transforms.kafka.avro import AvroEncoder
from scoreline.transforms.kafka.encode import (
    Encoded,
    encode_rows,
    to_columns,
    to_json_values,
    to_types,
)
from scoreline.transforms.kafka.letters import to_letters
from scoreline.transforms.kafka.producer import (
    SlotProducer,
    WriteSpec,
    acquire,
    release,
    slots_of,
)


class _WriteDoFn(beam.DoFn):
    def __init__(self, spec: WriteSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._slots: dict[int, SlotProducer] = {}
        # Slots of this instance's bundle. Other instances may run bundles in parallel.
        self._open: set[int] = set()
        self._encoder = AvroEncoder(self._spec.avro) if self._spec.avro else None
        self._metrics = BundleMetrics()

    def teardown(self) -> None:
        for number, slot in self._slots.items():
            release(self._spec, number, slot, self, is_open=number in self._open)
        self._slots.clear()

    def process(self, element: tuple[RecordKey, pa.RecordBatch]) -> None:
        key, batch = element
        number = key.slot
        if number not in self._slots or self._slots[number].is_closed:
            self._slots[number] = acquire(self._spec, number, self)
        slot = self._slots[number]
        self._open.add(number)
        slot.begin()
        slot.observe(batch)
        with self._metrics.timed(metrics.SEND_MS):
            if key.are_dead:
                self._send_letters(slot, batch)
            else:
                self._send_scores(slot, batch)

    def _send_scores(self, slot: SlotProducer, batch: pa.RecordBatch) -> None:
        with self._metrics.timed(metrics.ENCODE_MS):
            encoded, dead = encode_rows(batch, self._encode)
        self._metrics.pass_rows(metrics.ENCODE_MS, batch.num_rows)
        for part in [] if self._spec.sends_nothing else encoded:
            if self._spec.topic:
                slot.send(part.rows, part.values)
                self._metrics.count(metrics.RECORDS_SENT, part.rows.num_rows)
                self._metrics.pass_rows(metrics.SEND_MS, part.rows.num_rows)
            if part.stored is not None:
                slot.hold(part.stored)
        if dead is not None:
            self._count_dead(len(dead.rows))
            digest = batch.column(DIGEST_COLUMN)[0].as_py()
            self._send_letters(slot, to_dead_letters(batch, dead, digest))

    def _encode(self, rows: pa.RecordBatch) -> Encoded:
        """Encode rows for the topic, and convert them to the types of the table."""
        spec, now_ms = self._spec, int(time.time() * 1000)
        columns = to_columns(rows, now_ms) if spec.table or self._encoder else rows
        values: list[bytes] = []
        if spec.topic:
            encoder = self._encoder
            values = encoder.encode(columns) if encoder else to_json_values(rows, now_ms)
        stored = None if spec.table is None else to_types(columns, spec.table.schema)
        return Encoded(rows, values, stored)

    def _send_letters(self, slot: SlotProducer, letters: pa.RecordBatch) -> None:
        slot.send_letters(to_letters(letters, self._spec.source_topic))
        self._metrics.count(metrics.RECORDS_SENT, letters.num_rows)
        self._metrics.pass_rows(metrics.SEND_MS, letters.num_rows)

    def _count_dead(self, rows: int) -> None:
        """Count rows that became dead letters after the model had scored them."""
        if rows:
            self._metrics.count(metrics.ROWS_DEAD, rows)
            self._metrics.count(metrics.ROWS_SCORED, -rows)

    def finish_bundle(self) -> None:
        with self._metrics.timed(metrics.SEND_MS):
            for number in self._open:
                self._count_dead(self._slots[number].finish())
        self._open.clear()
        if self._spec.table is not None:
            self._write_due()
        self._metrics.flush()
        stage_times.leave()

    def _write_due(self) -> None:
        """Write due rows of all slots, because bundles of an idle stream end in any instance."""
        with self._metrics.timed(metrics.COMMIT_MS):
            for slot in slots_of(self._spec):
                self._metrics.count(metrics.BYTES_STAGED, slot.write_due())


@dataclasses.dataclass(kw_only=True, eq=False)
class WriteKafka(beam.PTransform):
    """Send scores to a topic, a table or both, dead letters to a topic, and commit their offsets.

    Delivery is at least once: the producer is idempotent, and offsets are committed after all
    records of the bundle are acknowledged. With `exactly_once`, records and offsets of a bundle are
    one transaction. A reader of committed records then sees the result of each source record once,
    even if the job dies. A table has each record exactly once in any case (see `append.py`), and
    offsets are committed with each of its files. This step must be fused with all steps from
    ReadKafka on. A record whose score cannot be encoded, or is refused by Kafka, is a dead letter.
    """

    spec: WriteSpec

    def expand(
        self, scores: beam.PCollection[tuple[RecordKey, pa.RecordBatch]]
    ) -> beam.PCollection[None]:
        """Send in one fused step."""
        return scores | "Send" >> beam.ParDo(_WriteDoFn(self.spec)).with_output_types(type(None))
