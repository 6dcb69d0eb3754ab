"""How far the partitions of a topic are read: Beam's restriction over several of them at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from apache_beam import coders
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker


class Positions(NamedTuple):
    """What of a topic is still to be read.

    Attributes:
      offsets: the next offset, by partition. A partition that is not in it yet may join.
      ends: where to end, by partition; None for a stream without an end.
      stopped: whether nothing more is to be read, because the rest has been given to another.
    """

    offsets: Mapping[int, int]
    ends: Mapping[int, int] | None = None
    stopped: bool = False

    @property
    def is_read(self) -> bool:
        """Whether every partition is read to its end."""
        if self.ends is None:
            return False
        return all(self.offsets.get(partition, 0) >= end for partition, end in self.ends.items())


class PositionsCoder(coders.Coder):
    """Encode positions as JSON, so that another version can read a savepoint."""

    def encode(self, value: Positions) -> bytes:
        """Return JSON."""
        return json.dumps([_to_list(value.offsets), _to_list(value.ends), value.stopped]).encode()

    def decode(self, encoded: bytes) -> Positions:
        """Return what was encoded."""
        offsets, ends, stopped = json.loads(encoded)
        return Positions(dict(offsets), None if ends is None else dict(ends), stopped)

    def is_deterministic(self) -> bool:
        """Return True: partitions are sorted."""
        return True


def _to_list(offsets: Mapping[int, int] | None) -> list[tuple[int, int]] | None:
    return None if offsets is None else sorted(offsets.items())


class PositionsTracker(RestrictionTracker):
    """Hand out runs of records, and give all the rest away at a checkpoint.

    The endless tail is never cut in two. At a checkpoint what is claimed stays here, and everything
    behind it goes to the residual, which is read once this bundle has ended. A split for the sake
    of parallelism is refused: its residual is read at once (Prism does so), and who delivers it
    first would have the offsets of what is still in the model committed.
    """

    def __init__(self, positions: Positions) -> None:
        """Begin at these positions."""
        self._offsets = dict(positions.offsets)
        self._ends = positions.ends
        self._stopped = positions.stopped
        self._claimed = 0

    def current_restriction(self) -> Positions:
        """Return what is still to be read."""
        return Positions(dict(self._offsets), self._ends, self._stopped)

    def try_claim(self, position: Mapping[int, int] | None) -> bool:
        """Claim all records below the given offsets; False when the rest has been given away.

        None gives up the rest: whoever reads on begins at the group's offsets.
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
        """Stop here and return this and the rest; None for a fraction, or when there is no rest."""
        rest = self.current_restriction()
        if fraction_of_remainder > 0 or rest.stopped or rest.is_read:
            return None
        self._stopped = True
        return self.current_restriction(), rest

    def check_done(self) -> None:
        """Raise ValueError unless all is read or given away."""
        if not (self._stopped or self.current_restriction().is_read):
            raise ValueError(
                f"Expected records to be read on from {self._offsets}; the reader left"
            )

    def current_progress(self) -> RestrictionProgress:
        """Return how many records were claimed; of an endless rest, nothing can be said."""
        left = [end - self._offsets.get(p, 0) for p, end in (self._ends or {}).items()]
        return RestrictionProgress(completed=self._claimed, remaining=max(1, sum(left)))

    def is_bounded(self) -> bool:
        """Return whether there is an end."""
        return self._ends is not None


class RecordTimes:
    """The time that a stream has come to, by the time of its records.

    Each partition has come to its newest record; the stream to the least of them. A partition
    that was silent for `idle_seconds` does not hold the others back; when all are silent, time
    goes on at that distance behind the clock. It never goes back: a late record is behind it.
    """

    def __init__(
        self, idle_seconds: float, clock: Callable[[], float] = time.time, at: float = 0.0
    ) -> None:
        """Begin at a time, in seconds since 1970."""
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._newest: dict[int, float] = {}
        self._heard: dict[int, float] = {}
        self.at = at

    def observe(self, newest_seconds: Mapping[int, float]) -> None:
        """Take note of the newest records of partitions."""
        now = self._clock()
        for partition, seconds in newest_seconds.items():
            self._newest[partition] = max(seconds, self._newest.get(partition, seconds))
            self._heard[partition] = now

    def advance(self) -> float:
        """Return the time the stream has come to."""
        now = self._clock()
        live = [
            newest
            for partition, newest in self._newest.items()
            if now - self._heard[partition] < self._idle_seconds
        ]
        self.at = max(self.at, min(live or [now - self._idle_seconds]))
        return self.at
