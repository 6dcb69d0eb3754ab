"""State that the reader and the sink of a slot, one fused stage, share within a process."""

from __future__ import annotations

import threading


class Holding:
    """The records that a slot's sink holds, over many bundles, before it delivers them.

    Attributes:
      offsets: the offset after the last of them, by partition.
      losses: number of times that the sink gave up held records; the reader must read them again.
      seen: the value of `losses` when the slot's reader last started to read.
      ended: whether that reader has reached its end, so that the sink must hold no records.
      confirmed: by partition, the offset below which all records are of the planned topic; None if
        no reader looks at the topic. After a topic is created again, its records are others.
      is_awaited: whether the sink waits for the reader to confirm more records.
    """

    def __init__(self) -> None:
        """Start with no records."""
        self.offsets: dict[int, int] = {}
        self.losses = self.seen = 0
        self.ended = self.is_awaited = False
        self.confirmed: dict[int, int] | None = None


_holdings: dict[tuple[str, str, str, int], Holding] = {}
_lock = threading.Lock()


def holding_of(brokers: str, group: str, topic: str, slot: int) -> Holding:
    """Return the shared state of a slot in this process."""
    with _lock:
        return _holdings.setdefault((brokers, group, topic, slot), Holding())
