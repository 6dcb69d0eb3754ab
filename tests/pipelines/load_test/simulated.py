"""A stream without processes: a queue with known capacity, in simulated time.

It stands for the driver, so that the method of a load test is tested against a known truth.
"""

import dataclasses

import numpy as np

from scoreline.pipelines.load_test.driver.loads import Drained, Offer
from scoreline.pipelines.load_test.judge.elements import StageTimes, Window, WorkerTimes


@dataclasses.dataclass
class SimulatedStream:
    """A queue that scores `per_s` records a second, for each of its workers.

    Attributes:
      per_s: capacity of one worker.
      harness_per_s: capacity of sender, broker and reader.
      serial: share of the work that only one worker can do at a time.
      gain: capacity by the name of a replaced stage, as a multiple.
      late_s: by how much the sender is late.
      neighbours: share of the machine that others use.
      latency_s: time from the end of the work to the score.
      leak_mb_per_s: growth of the memory.
      max_records: records that one start can take.
    """

    per_s: float
    harness_per_s: float = 20_000
    serial: float = 0.0
    gain: dict[str, float] = dataclasses.field(default_factory=dict)
    late_s: float = 0.0
    neighbours: float = 0.0
    latency_s: float = 0.02
    commit_s: float = 0.5
    starts: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    offered: list[Offer] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    has_backlog: bool = False
    leak_mb_per_s: float = 0.0
    max_records: int = 1 << 26
    sent: int = 0

    def start(self, *, workers=1, replaced="", backlog=0):
        self.starts.append((workers, replaced))
        self.workers, self.replaced, self.has_backlog = workers, replaced, False
        self.seconds += 5
        self.sent = backlog
        return None if backlog else 4.0 + len(self.starts) / 100

    def can_take(self, count):
        return not self.has_backlog and self.sent + count <= self.max_records

    @property
    def rate_per_s(self):
        if self.replaced == "harness":
            return self.harness_per_s
        n = self.workers
        rate = self.per_s * n / (1 + self.serial * (n - 1)) * self.gain.get(self.replaced, 1.0)
        return min(rate, self.harness_per_s)

    def drain(self, count, seconds):
        scored = np.arange(1, count + 1) / self.rate_per_s
        scored = scored[scored <= seconds] + self.seconds
        self.seconds += seconds
        return Drained(scored, scored[0], scored[-1], self._times(scored[-1] - scored[0], 1.0))

    def measure_model(self, rate_per_s):
        return None

    def offer(self, offer):
        self.offered.append(offer)
        self.sent += offer.due_s.size
        assert self.sent <= self.max_records
        due, each = offer.due_s, 1 / self.rate_per_s
        order = np.arange(due.size)
        sent = due + self.late_s
        done = np.maximum.accumulate(sent - order * each) + (order + 1) * each
        end_s = offer.warm_up_s + offer.window_s
        until = int(np.searchsorted(due, end_s))
        scored = done + self.latency_s
        scored[scored > end_s + 30] = np.nan
        self.has_backlog = bool(np.isnan(scored).any())
        busy = min(1.0, due[:until].size * each / end_s)
        began, self.seconds = self.seconds, self.seconds + end_s + 5
        return Window(
            phase=offer.phase,
            shape=offer.shape,
            workers=self.workers,
            seed=offer.seed,
            offered_per_s=np.count_nonzero(due[:until] >= offer.warm_up_s) / offer.window_s,
            begin_s=began + offer.warm_up_s,
            end_s=began + end_s,
            due_s=began + due[:until],
            sent_s=began + sent[:until],
            scored_s=began + scored[:until],
            is_dead=np.zeros(until, bool),
            commit_s=self.commit_s,
            lost_ids=0,
            spike_s=offer.spike_s and (began + offer.spike_s[0], began + offer.spike_s[1]),
            capacity_per_s=offer.capacity_per_s,
            worker_times=self._times(offer.window_s, busy),
            memory_at_s=began + np.arange(0.0, end_s, 1.0),
            memory_mb=500.0 + self.leak_mb_per_s * np.arange(0.0, end_s, 1.0),
            neighbour_cpu_share=self.neighbours,
            replaced=self.replaced,
        )

    def _times(self, wall_s, busy):
        rows = int(self.rate_per_s * busy * wall_s / self.workers)
        shares = {"poll": 0.02, "decode": 0.1, "features": 0.05, "predict": 0.7, "send": 0.1}
        free = 1 / (1 + self.serial * (self.workers - 1))  # the rest is waiting for the others
        stages = tuple(
            StageTimes(
                name=name,
                useful_s=wall_s * busy * free * share,
                waiting_s=wall_s * busy * (1 - free) if name == "predict" else 0.0,
                rows=rows,
            )
            for name, share in shares.items()
        )
        return tuple(
            WorkerTimes(
                worker=f"here:1/{number}",
                wall_s=wall_s,
                cpu_s=wall_s * busy * free * 0.97,
                idle_s=wall_s * (1 - busy * 0.97),
                stages=stages,
            )
            for number in range(self.workers)
        )
