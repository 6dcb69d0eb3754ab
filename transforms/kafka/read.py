"""A Kafka topic → record batches of raw records, with a splittable DoFn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam import coders
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import Reading, RecordKey
from scoreline.transforms import stage_times
from scoreline.transforms.bundle_metrics import BundleMetrics
from scoreline.transforms.kafka.positions import Positions, PositionsCoder, PositionsTracker
from scoreline.transforms.kafka.producer import SlotProducer, WriteSpec, acquire, release
from scoreline.transforms.kafka.reader import (
    Reader,
    TopicSpec,
    first_positions,
    stop_reading,
)


class _ReadDoFn(beam.DoFn, RestrictionProvider, WatermarkEstimatorProvider):
    """Polls a slot's partitions; Beam requires restrictions and watermarks from the same object."""

    def __init__(self, spec: TopicSpec, sink: WriteSpec | None) -> None:
        self._spec = spec
        self._sink = sink

    def initial_restriction(self, element: Reading) -> Positions:
        return first_positions(self._spec, element)

    def create_tracker(self, restriction: Positions) -> PositionsTracker:
        return PositionsTracker(restriction)

    def restriction_size(self, element: Reading, restriction: Positions) -> float:
        return 1.0

    def restriction_coder(self) -> coders.Coder:
        return PositionsCoder()

    def truncate(self, element: Reading, restriction: Positions) -> Positions | None:
        return None  # a drain: claimed records are finished, and no more are read

    def initial_estimator_state(self, element: Reading, restriction: Positions) -> Timestamp:
        return Timestamp(0)

    def create_watermark_estimator(self, estimator_state: Timestamp) -> ManualWatermarkEstimator:
        return ManualWatermarkEstimator(estimator_state)

    def setup(self) -> None:
        stage_times.start(self._spec.stage_times)
        self._readers: dict[Reading, Reader] = {}
        self._producers: dict[int, SlotProducer] = {}
        self._metrics = BundleMetrics()

    def teardown(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        for slot, producer in self._producers.items():
            if self._sink is not None:
                release(self._sink, slot, producer, self, is_open=False)
        self._producers.clear()
        stage_times.stop(self._spec.stage_times)

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        reading: Reading,
        tracker: Any = beam.DoFn.RestrictionParam(),  # noqa: B008  Beam's convention
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(),  # noqa: B008
    ) -> Iterator[TimestampedValue]:
        """Poll until the bundle is old enough, the topic is idle or the rest is passed on."""
        positions = tracker.current_restriction()
        if not positions.is_read:
            reader = self._reader_of(reading, positions)
            yield from reader.read(tracker, self._metrics)
            at = Timestamp(reader.times.advance())
            if at > watermark.current_watermark():
                watermark.set_watermark(at)
            is_read = tracker.current_restriction().is_read
            if is_read or stop_reading.is_set():
                reader.end()
            if not is_read:
                tracker.defer_remainder()

    def _reader_of(self, reading: Reading, positions: Positions) -> Reader:
        """Return the reader of a slot, at the group's offsets.

        First it ends the transactions of another job that still runs. Otherwise that job could
        commit after the offsets are read, and records would be duplicated.
        """
        if reading not in self._readers:
            if self._sink is not None:
                self._producers[reading.slot] = acquire(self._sink, reading.slot, self)
            self._readers[reading] = Reader(self._spec, reading, positions)
        return self._readers[reading]

    def finish_bundle(self) -> None:
        self._metrics.flush()


@dataclasses.dataclass(kw_only=True, eq=False)
class ReadKafka(beam.PTransform):
    """Read a topic as (RecordKey, RecordBatch) of raw records: `RAW_SCHEMA`.

    A batch holds the records of one poll, in the order of each partition. Partitions are spread
    over `slots` elements, each with one consumer. Partitions that are added while the job runs are
    found within 6 s and read from their first record. `WriteKafka` commits the offsets, after the
    results of the records are delivered. Therefore the steps in between must be fused with this
    one. Watermark: see `RecordTimes`.

    Attributes:
      spec: what to read.
      slots: number of consumers that share the partitions.
      sink: the sink whose transactions a slot takes over before it reads the group's offsets; None
        for no transactions.
    """

    spec: TopicSpec
    slots: int = 1
    sink: WriteSpec | None = None

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[tuple[RecordKey, pa.RecordBatch]]:
        """Read with one splittable DoFn."""
        readings = [Reading(self.spec.topic, slot, self.slots) for slot in range(self.slots)]
        return (
            pipeline
            | "AssignPartitions" >> beam.Create(readings, reshuffle=True)
            | "Poll"
            >> beam.ParDo(_ReadDoFn(self.spec, self.sink)).with_output_types(
                tuple[RecordKey, pa.RecordBatch]
            )
        )
