"""What else uses this machine: processes that do not take part in a load test, and steal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import psutil

from scoreline.pipelines.load_test.judge.elements import Floats

_EVERY_S = 1.0
# Listing all connections takes milliseconds.
_LOOK_S = 5.0


class Sample(NamedTuple):
    """The processor seconds of the machine until a moment.

    Attributes:
      at_s: the moment, by the clock of `time.time`.
      busy_s: of everything that ran on this machine.
      own_s: of the processes that take part.
      steal_s: seconds that the hypervisor gave to other machines.
      memory_mb: resident memory of the pipeline's processes on this machine.
    """

    at_s: float
    busy_s: float
    own_s: float
    steal_s: float
    memory_mb: float


class Use(NamedTuple):
    """The use of the machine within a window."""

    neighbour_share: float
    steal_share: float
    memory_at_s: Floats
    memory_mb: Floats


def find_partners(pids: Iterable[int]) -> set[int]:
    """Return processes of this machine that processes talk to by TCP, with their own partners.

    A broker or a cluster on this machine takes part in a load test without being its child.
    """
    talks: dict[tuple[str, int], int] = {}
    calls: list[tuple[int, tuple[str, int]]] = []
    for link in psutil.net_connections("tcp"):
        if link.pid is None or link.status != psutil.CONN_ESTABLISHED:
            continue
        talks[_address(link.laddr)] = link.pid
        calls.append((link.pid, _address(link.raddr)))
    found = set(pids)
    while True:
        more = {talks[to] for pid, to in calls if pid in found and to in talks} - found
        if not more:
            return found
        found |= more


def _address(end: Any) -> tuple[str, int]:
    """Return an end of a connection; a server of IPv6 shows clients of IPv4 as ::ffff:127.0.0.1."""
    return end.ip.removeprefix("::ffff:"), end.port


class Machine(threading.Thread):
    """Samples the use of this machine once a second until it is stopped.

    What a process of ours uses between its last sample and its end counts as a neighbour's.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        super().__init__(daemon=True, name="machine")
        self._stopped = threading.Event()
        self._workers: set[int] = set()
        self._last: dict[tuple[int, float], float] = {}
        self._began_s = time.time()
        self._own_s = 0.0
        self._partners: set[int] = set()
        self._looked_s = -_LOOK_S
        self.samples: list[Sample] = []

    def set_workers(self, pids: Iterable[int]) -> None:
        """Set the processes of the pipeline, whose memory counts; their children are included."""
        self._workers = set(pids)

    def run(self) -> None:
        """Take samples."""
        while not self._stopped.is_set():
            began = time.monotonic()
            self.samples.append(self._sample())
            self._stopped.wait(max(0.0, _EVERY_S - (time.monotonic() - began)))

    def stop(self) -> None:
        """End after the sample that is being taken."""
        self._stopped.set()
        self.join()

    def _sample(self) -> Sample:
        total = psutil.cpu_times()
        busy = sum(total) - total.idle - total.iowait - getattr(total, "steal", 0.0)
        busy -= getattr(total, "guest", 0.0) + getattr(total, "guest_nice", 0.0)  # within user
        me = psutil.Process()
        own = {me.pid: me, **{child.pid: child for child in me.children(recursive=True)}}
        if time.monotonic() - self._looked_s >= _LOOK_S:
            self._looked_s, self._partners = time.monotonic(), find_partners(own)
        for pid in self._partners | self._workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                own[pid] = psutil.Process(pid)
        workers = set(self._workers)
        for pid in self._workers & set(own):
            with contextlib.suppress(psutil.NoSuchProcess):
                children = own[pid].children(recursive=True)
                workers |= {child.pid for child in children}
                own |= {child.pid: child for child in children}
        now: dict[tuple[int, float], float] = {}
        memory = 0.0
        for pid, process in own.items():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = process.cpu_times()
                now[(pid, process.create_time())] = times.user + times.system
                if pid in workers:
                    memory += process.memory_info().rss / 1e6
        for key, used in now.items():  # an older process counts from the first look at it
            is_older = key[1] < self._began_s
            self._own_s += used - self._last.get(key, used if is_older else 0.0)
        self._last |= now
        return Sample(time.time(), busy, self._own_s, getattr(total, "steal", 0.0), memory)

    def use(self, begin_s: float, end_s: float) -> Use:
        """Return the use within a window.

        Raises:
          ValueError: the window has no two samples.
        """
        inside = [s for s in self.samples if begin_s - _EVERY_S <= s.at_s <= end_s + _EVERY_S]
        if len(inside) < 2:
            raise ValueError(f"expected two samples from {begin_s} to {end_s}, got {len(inside)}")
        first, last = inside[0], inside[-1]
        cores_s = (last.at_s - first.at_s) * (psutil.cpu_count() or 1)
        neighbours = (last.busy_s - first.busy_s) - (last.own_s - first.own_s)
        return Use(
            max(0.0, neighbours / cores_s),
            (last.steal_s - first.steal_s) / cores_s,
            np.array([sample.at_s for sample in inside]),
            np.array([sample.memory_mb for sample in inside]),
        )
