"""A Kafka topic → record batches, read by timers, for runners whose splittable DoFns leak state.

Beam's Flink runner stores each residual of a splittable DoFn under its own name and never removes
it: docs/decisions/0014-streams-on-flink.md. A timer and an overwritten state do not accumulate.

Issue: https://github.com/apache/beam/issues/27648, and https://github.com/apache/beam/pull/39191.
Seen in: Java SDK 2.70.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import Reading, RecordKey
from scoreline.transforms import stage_times
from scoreline.transforms.bundle_metrics import BundleMetrics
from scoreline.transforms.kafka.positions import Positions, PositionsCoder, PositionsTracker
from scoreline.transforms.kafka.producer import WriteSpec, take_over
from scoreline.transforms.kafka.reader import Reader, TopicSpec, first_positions


class _PollDoFn(beam.DoFn):
    """Polls the partitions of a slot when its timer fires, and sets the timer again."""

    _POSITIONS = ReadModifyWriteStateSpec("positions", PositionsCoder())
    _AGAIN = TimerSpec("again", TimeDomain.REAL_TIME)

    def __init__(self, spec: TopicSpec, keys: Sequence[str], sink: WriteSpec | None) -> None:
        self._spec = spec
        self._readings = {
            key: Reading(spec.topic, slot, len(keys)) for slot, key in enumerate(keys)
        }
        self._sink = sink

    def setup(self) -> None:
        stage_times.start(self._spec.stage_times)
        self._readers: dict[str, Reader] = {}
        self._metrics = BundleMetrics()

    def teardown(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        stage_times.stop(self._spec.stage_times)

    def process(
        self,
        element: tuple[str, int],
        positions: Any = beam.DoFn.StateParam(_POSITIONS),  # noqa: B008  Beam's convention
        again: Any = beam.DoFn.TimerParam(_AGAIN),  # noqa: B008
    ) -> None:
        """Set the first timer at the first tick; reading starts at the group's offsets."""
        key, _ = element
        if positions.read() is None:
            self._end_transactions(key)
            positions.write(first_positions(self._spec, self._readings[key]))
            again.set(Timestamp.now())

    @on_timer(_AGAIN)
    def poll(
        self,
        key: Any = beam.DoFn.KeyParam,
        positions: Any = beam.DoFn.StateParam(_POSITIONS),  # noqa: B008
        again: Any = beam.DoFn.TimerParam(_AGAIN),  # noqa: B008
    ) -> Iterator[TimestampedValue]:
        """Poll until the bundle is old enough or the topic is idle; the next poll is at once."""
        tracker = PositionsTracker(positions.read())
        yield from self._reader_of(key, tracker.current_restriction()).read(tracker, self._metrics)
        positions.write(tracker.current_restriction())
        if not tracker.current_restriction().is_read:
            again.set(Timestamp.now())

    def _reader_of(self, key: str, positions: Positions) -> Reader:
        """Return the reader of a slot; a new one if the runner has restored an older state."""
        reader = self._readers.get(key)
        if reader is not None and reader.is_beyond(positions):
            self._readers.pop(key).close()
            reader = None
        if reader is None:
            self._end_transactions(key)
            reader = self._readers[key] = Reader(self._spec, self._readings[key], positions)
        return reader

    def _end_transactions(self, key: str) -> None:
        """Fence the group's offsets, because a worker that was replaced may still run.

        Without transactions it may deliver records again, which at least once allows.
        """
        if self._sink is not None:
            take_over(self._sink, self._readings[key].slot)

    def finish_bundle(self) -> None:
        self._metrics.flush()


@dataclasses.dataclass(kw_only=True, eq=False)
class PollKafka(beam.PTransform):
    """Read a topic like ReadKafka, with one timer per slot.

    It needs a runner with state and timers per key. The input is ticks: any stream whose first
    element starts the reading. It must not end, because a runner drops the timers of a step whose
    input has ended. Each slot has a key, which determines its worker, and its positions are the
    only state. A new worker continues from them, or from the group's offsets if those are ahead. A
    bundle is one poll, or the polls within `bundle_seconds`. A checkpoint must not split a bundle:
    on Flink, set `finish_bundle_before_checkpointing`. The watermark follows the clock.

    Attributes:
      spec: what to read; it must be unbounded.
      keys: the keys of the slots, all different.
      sink: the sink whose transactions a slot takes over before it reads the group's offsets; None
        for no transactions.
    """

    spec: TopicSpec
    keys: Sequence[str]
    sink: WriteSpec | None = None

    def expand(
        self, ticks: beam.PCollection[bytes]
    ) -> beam.PCollection[tuple[RecordKey, pa.RecordBatch]]:
        """Read in one stateful step."""
        slots = [(key, slot) for slot, key in enumerate(self.keys)]
        return (
            ticks
            | "AssignPartitions" >> beam.FlatMap(lambda _: slots).with_output_types(tuple[str, int])
            | "Poll"
            >> beam.ParDo(_PollDoFn(self.spec, self.keys, self.sink)).with_output_types(
                tuple[RecordKey, pa.RecordBatch]
            )
        )
