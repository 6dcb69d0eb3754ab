"""What reader and sink of a slot, which are one fused stage, tell each other within a process."""

from __future__ import annotations

import threading


class Holding:
    """How far the records are that a slot's sink holds, over many bundles, before it delivers them.

    Attributes:
      offsets: the offset behind them, by partition.
      losses: how often the sink gave up what it held: who read it must read it again.
      seen: the losses that the slot's reader knew of when it began to read last.
      ended: whether that reader reads nothing more, so that nothing is to be held.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.offsets: dict[int, int] = {}
        self.losses = self.seen = 0
        self.ended = False


_holdings: dict[tuple[str, str, str, int], Holding] = {}
_lock = threading.Lock()


def holding_of(brokers: str, group: str, topic: str, slot: int) -> Holding:
    """Return this process's holding of a slot."""
    with _lock:
        return _holdings.setdefault((brokers, group, topic, slot), Holding())
