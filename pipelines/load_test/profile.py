"""The profile of a load test: what is tested, with which load, against which limits."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping

from scoreline.pipelines.load_test.judge.elements import Slos
from scoreline.pipelines.load_test.judge.search import PRECISIONS

# Shapes of a steady load. Spike and step are none to choose: every test of a stream has them.
SHAPES = ("poisson", "even", "trace")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records:
    """The records that are sent to a stream, again and again if they are too few.

    Attributes:
      path: file or folder of files, or name of a topic on the same brokers. Rows of Parquet become
        JSON values; lines of JSON Lines, records of TFRecord and values of a topic stay as they
        are, in any format.
      format: files or topic.
    """

    path: str
    format: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trace:
    """Arrival times from a Parquet file, sped up or slowed down to the load.

    Attributes:
      file: Parquet file, or folder of such files.
      column: its timestamp column.
    """

    file: str
    column: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
    """What a worker costs.

    Attributes:
      currency: as in EUR.
      worker_hour: price of a worker for an hour.
      source: file of the prices, or "profile".
    """

    currency: str
    worker_hour: float
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """A load for which the number of workers is wanted.

    Attributes:
      rate_per_s: of a stream; None for a batch.
      rows: of a batch; None for a stream.
      begin, by: when the batch can begin and when it must have ended, as times of a day.
    """

    rate_per_s: float | None = None
    rows: int | None = None
    begin: dt.time | None = None
    by: dt.time | None = None

    @property
    def deadline_s(self) -> float | None:
        """Seconds from `begin` to `by`, on the next day if `by` is not later; None for a stream."""
        if self.begin is None or self.by is None:
            return None
        minutes = 60 * (self.by.hour - self.begin.hour) + self.by.minute - self.begin.minute
        return 60.0 * (minutes if minutes > 0 else minutes + 24 * 60)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """A checked profile.

    Attributes:
      source: file of the profile; "" for flags only.
      mode: stream or batch.
      argv: arguments of `scoreline stream` or `batch`, without those that the load test sets
        (`tested.SET_BY_TEST`).
      records: what is sent to a stream; None for a batch.
      partitions: partitions of the topics.
      workers: numbers of workers to test, ascending; the first one is that of the verdict.
      scale_command: argv that sets the number of workers of a cluster, with `{workers}`; () for
        local workers.
      shape: shape of the arrivals.
      trace: the arrival times of the shape trace; None for another one.
      seed: seed of the arrivals.
      start_rate_per_s: the first tested load; None for an estimate.
      soak_s: seconds of a soak, a long steady window at the end; None without one.
      slos: the limits.
      volumes: tested volumes of a batch, as multiples of its input, ascending.
      prices: the prices; None without.
      need: the need; None without.
      precision: quick, normal or fine.
      budget_s: maximum duration of the test; None for no limit.
      output: folder of the report; "" for build/load-test/<time>.
      write_scaling: folder for settings of autoscalers, for a stream; "" for none.
    """

    source: str = ""
    mode: str
    argv: tuple[str, ...]
    records: Records | None = None
    partitions: int = 12
    workers: tuple[int, ...] = (1,)
    scale_command: tuple[str, ...] = ()
    shape: str = "poisson"
    trace: Trace | None = None
    seed: int = 1
    start_rate_per_s: float | None = None
    soak_s: float | None = None
    slos: Slos = dataclasses.field(default_factory=Slos)
    volumes: tuple[int, ...] = (1, 4, 16)
    prices: Prices | None = None
    need: Need | None = None
    precision: str = "normal"
    budget_s: float | None = None
    output: str = ""
    write_scaling: str = ""

    @property
    def window_s(self) -> float:
        """Minimum seconds of a window."""
        return PRECISIONS[self.precision].window_s


def scale_argv(profile: Profile, workers: int) -> list[str]:
    """Return the command that sets the number of workers of the cluster."""
    return [part.replace("{workers}", str(workers)) for part in profile.scale_command]


# Keys that only one of the two modes has, and why the other has none.
ONLY: Mapping[str, Mapping[str, str]] = {
    "stream": {
        "records": "a batch scores its --input",
        "partitions": "a batch has the partitions of its input",
        "shape": "a batch has no arrivals",
        "trace": "a batch has no arrivals",
        "seed": "a batch has no arrivals",
        "start_rate_per_s": "a batch has no arrivals",
        "soak_s": "a batch ends by itself",
    },
    "batch": {"volumes": "a stream is tested at rates"},
}
# Limits that only one of the two modes has.
ONLY_SLOS: Mapping[str, tuple[str, ...]] = {
    "stream": (
        *("rate_per_s", "latency_percentile", "latency_ms", "lag_growth_share", "freshness_s"),
        "recover_s",
    ),
    "batch": ("rows", "deadline_s"),
}
