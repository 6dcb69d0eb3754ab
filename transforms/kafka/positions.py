"""Beam's restriction over the offsets of several partitions of a topic."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from apache_beam import coders
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker


class Positions(NamedTuple):
    """The part of a topic that is still to be read.

    Attributes:
      offsets: the next offset, by partition. New partitions may be added.
      ends: the end offset, by partition; None for a stream without an end.
      stopped: whether reading has stopped here, because the rest was passed to another restriction.
      topic_id: the id of the topic; "" if it is unknown.
    """

    offsets: Mapping[int, int]
    ends: Mapping[int, int] | None = None
    stopped: bool = False
    topic_id: str = ""

    @property
    def is_read(self) -> bool:
        """Whether every partition is read to its end."""
        if self.ends is None:
            return False
        return all(self.offsets.get(partition, 0) >= end for partition, end in self.ends.items())


class PositionsCoder(coders.Coder):
    """Encodes positions as JSON, so that another version can read a savepoint."""

    def encode(self, value: Positions) -> bytes:
        """Return JSON."""
        lists = [_to_list(value.offsets), _to_list(value.ends)]
        return json.dumps([*lists, value.stopped, value.topic_id]).encode()

    def decode(self, encoded: bytes) -> Positions:
        """Return the decoded positions; those of an older version have no id."""
        offsets, ends, stopped, *topic_id = json.loads(encoded)
        return Positions(dict(offsets), None if ends is None else dict(ends), stopped, *topic_id)

    def is_deterministic(self) -> bool:
        """Return True: the encoding sorts partitions."""
        return True


def _to_list(offsets: Mapping[int, int] | None) -> list[tuple[int, int]] | None:
    return None if offsets is None else sorted(offsets.items())


class PositionsTracker(RestrictionTracker):
    """Claims runs of records, and passes the rest to the residual at a checkpoint.

    At a checkpoint, claimed records stay here, and all later ones go to the residual. The residual
    is read after this bundle has ended. A split for parallelism is refused. A runner such as Prism
    reads its residual at once, and could then commit offsets of records that the model has not
    scored yet.
    """

    def __init__(self, positions: Positions) -> None:
        """Start at these positions."""
        self._offsets = dict(positions.offsets)
        self._ends = positions.ends
        self._stopped = positions.stopped
        self._topic_id = positions.topic_id
        self._claimed = 0

    def current_restriction(self) -> Positions:
        """Return the positions that are still to be read."""
        return Positions(dict(self._offsets), self._ends, self._stopped, self._topic_id)

    def try_claim(self, position: Mapping[int, int] | None) -> bool:
        """Claim all records below the given offsets; return False if the rest was passed on.

        None gives up the rest: the next reader starts at the group's offsets.
        """
        if position is None:
            self._stopped = True
        if self._stopped or position is None:
            return False
        for partition, offset in position.items():
            self._claimed += offset - self._offsets.get(partition, offset)
            self._offsets[partition] = offset
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[Positions, Positions] | None:
        """Stop here and return this and the rest; None for a fraction, or if there is no rest."""
        rest = self.current_restriction()
        if fraction_of_remainder > 0 or rest.stopped or rest.is_read:
            return None
        self._stopped = True
        return self.current_restriction(), rest

    def check_done(self) -> None:
        """Raise ValueError unless everything is read or passed on."""
        if not (self._stopped or self.current_restriction().is_read):
            raise ValueError(
                f"Expected more records to be read from {self._offsets} on, but the reader returned"
            )

    def current_progress(self) -> RestrictionProgress:
        """Return the number of claimed records; the rest of an endless stream has no size."""
        left = [end - self._offsets.get(p, 0) for p, end in (self._ends or {}).items()]
        return RestrictionProgress(completed=self._claimed, remaining=max(1, sum(left)))

    def is_bounded(self) -> bool:
        """Return whether the restriction has an end."""
        return self._ends is not None


class RecordTimes:
    """The watermark of a stream, from the timestamps of its records.

    The watermark of a partition is its newest timestamp. The watermark of the stream is the minimum
    over partitions. A partition that was idle for `idle_seconds` does not hold it back. If all are
    idle, it follows the clock at that distance. It never goes back, so a late record is behind it.
    """

    def __init__(
        self, idle_seconds: float, clock: Callable[[], float] = time.time, at: float = 0.0
    ) -> None:
        """Start at a time, in seconds since 1970."""
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._newest: dict[int, float] = {}
        self._heard: dict[int, float] = {}
        self.at = at

    def observe(self, newest_seconds: Mapping[int, float]) -> None:
        """Record the newest timestamps of partitions."""
        now = self._clock()
        for partition, seconds in newest_seconds.items():
            self._newest[partition] = max(seconds, self._newest.get(partition, seconds))
            self._heard[partition] = now

    def advance(self) -> float:
        """Return the watermark, in seconds since 1970."""
        now = self._clock()
        live = [
            newest
            for partition, newest in self._newest.items()
            if now - self._heard[partition] < self._idle_seconds
        ]
        self.at = max(self.at, min(live or [now - self._idle_seconds]))
        return self.at
