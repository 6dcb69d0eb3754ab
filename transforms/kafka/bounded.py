"""The end of a bounded reading: whether it can still be reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from scoreline.transforms.kafka.ending import StreamEnds

# Kafka aborts a transaction whose producer is gone after 60 s by default, and looks every 10 s.
_PATIENCE_SECONDS = 90.0
# A reader that waits for its model does not poll, so time alone does not count.
_MIN_POLLS = 30


class BoundedEnd:
    """Finds partitions that stop before the end of the job, and ends the job after a while."""

    def __init__(
        self,
        topic: str,
        ends: Mapping[int, int] | None,
        stable_end: Callable[[int], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start at the first poll.

        Args:
          topic: the topic.
          ends: the end of each partition; None for a job without an end.
          stable_end: returns the offset of a partition's oldest open transaction, or its end.
          clock: returns seconds.
        """
        self._topic, self._ends, self._clock = topic, ends, clock
        self._stable_end = stable_end
        self._idle_since: float | None = None
        self._idle_polls = 0

    def observe(self, *, is_empty: bool) -> None:
        """Note a poll: whether it gave neither a record nor the end of a partition."""
        if not is_empty:
            self._idle_since, self._idle_polls = None, 0
            return
        self._idle_since = self._idle_since or self._clock()
        self._idle_polls += 1

    def check(self, at: Mapping[int, int]) -> None:
        """Check that the end can be reached from the given offsets.

        The client reports the end of what may be read once, and again after further records. If
        that is before the end of the log, and nothing follows, the rest cannot be read now.

        Raises:
          StreamEnds: an open transaction has held back records for long, or no broker sends any.
        """
        if self._ends is None or self._idle_since is None or self._idle_polls < _MIN_POLLS:
            return
        idle = self._clock() - self._idle_since
        if idle < _PATIENCE_SECONDS:
            return
        for partition, end in sorted(self._ends.items()):
            if at.get(partition, 0) < end:
                self._end(partition, at.get(partition, 0), idle)

    def _end(self, partition: int, at: int, seconds: float) -> None:
        """Raise StreamEnds with the reason why nothing comes from an offset on."""
        what = f"--until_end: {self._expected(partition)}, "
        if self._stable_end(partition) <= at:
            raise StreamEnds(
                f"{what}but an open transaction has held back those from {at} on for "
                f"{seconds:.0f} s. End it with its producer, or with kafka-transactions.sh "
                "find-hanging and abort. Then start the job again"
            )
        raise StreamEnds(
            f"{what}got none from {at} on for {seconds:.0f} s. Check that its broker runs, and "
            "that its log there is whole. Then start the job again"
        )

    def _expected(self, partition: int) -> str:
        end = self._ends[partition] if self._ends else 0
        return (
            f"expected the records of partition {partition} of topic {self._topic} up to offset "
            f"{end}"
        )
