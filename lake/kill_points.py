"""Points at which a test can kill or stop this process, to prove that a rerun completes the work.

For tests only. Two variables of the environment are read once, when this module is imported:

    SCORELINE_DIE_AT=staged:3    SIGKILL when the process reaches the point for the third time
    SCORELINE_STOP_AT=planned    SIGSTOP when it does so for the first time

Without them `reach` returns at once. It is called at most once per record batch, never per row.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Literal, get_args

KillPoint = Literal[
    "planned",  # the plan is made, the table may not exist
    "scoring",  # a record batch is read, not scored
    "writing",  # a record batch is scored, not in its file
    "written",  # all rows of a shard are in a file that has no name yet
    "staged",  # the file has its name, its receipt is not written
    "gathered",  # all shards of a partition have receipts, nothing of it is published
    "checked",  # the keys were compared, dead letters are not published
    "letters_published",  # dead letters are published, the transaction is not made
    "committed",  # the transaction is made, letters of the earlier run still exist
    "cleared",  # those are moved away, the receipts still exist
    "job_done",  # all partitions are committed, the launcher has not read the outcomes
    "delivered",  # scores of a stream are in the table or topic, offsets are not committed
]
KILL_POINTS: frozenset[KillPoint] = frozenset(get_args(KillPoint))


class _Trigger:
    """Sends this process a signal when it reaches a point for the nth time, in any thread."""

    def __init__(self, variable: str, value: str, number: signal.Signals) -> None:
        point, colon, times = value.partition(":")
        if point not in KILL_POINTS or (colon and not times.isdecimal()):
            raise ValueError(
                f"{variable}: expected POINT or POINT:N with a point of {sorted(KILL_POINTS)}, "
                f"got '{value}'"
            )
        self._point, self._left, self._signal = point, int(times or "1"), number
        self._lock = threading.Lock()

    def reach(self, point: str) -> None:
        if point != self._point:
            return
        with self._lock:  # held during the signal: no other thread gets past the point
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), self._signal)


_TRIGGERS = tuple(
    _Trigger(variable, value, number)
    for variable, number in (
        ("SCORELINE_DIE_AT", signal.SIGKILL),
        ("SCORELINE_STOP_AT", signal.SIGSTOP),
    )
    if (value := os.environ.get(variable))
)


def reach(point: KillPoint) -> None:
    """Mark that the process is at a point; a test may kill it there."""
    for trigger in _TRIGGERS:
        trigger.reach(point)
