"""A day of flights, sped up, with a spike: what a cluster makes of it."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from demo.data import KEY
from demo.waiting_model import save_waiting
from deploy.local.flink_autoscale import Autoscaler, GroupLag
from deploy.local.flink_cluster import FlinkCluster
from deploy.local.scaling_rule import Known, Reading, Rule
from scoreline.pipelines.load_test.arrivals import find_due
from scoreline.pipelines.load_test.driver.loads import Offer, StreamSubject
from scoreline.pipelines.load_test.driver.stream import StreamDriver
from scoreline.pipelines.load_test.judge.elements import Floats, Window
from scoreline.pipelines.load_test.result import Series
from scoreline.pipelines.load_test.series import bin_window
from scoreline.transforms.kafka.client import Connection

READERS = 4
PARTITIONS = 12
US_PER_ROW = 2000
PER_S = 250.0
SPIKE, SPIKE_AT, SPIKE_S = 10.0, 0.45, 10.0
# A record is late after so many seconds.
LATE_S = 5.0
_CALM_S = 3.0
_COLUMNS = ("distance", "carrier", "origin", "dest")
_SEED = 1
# A call of the model takes as many records as the client has fetched. By default that is 8,192,
# which is a call of 16 s, and a restart waits for its end.
_CLIENT = "queued.max.messages.kbytes=32\nfetch.message.max.bytes=32768\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster to compare: its name and its bounds, which are equal if its size is fixed."""

    name: str
    min_workers: int
    max_workers: int

    @property
    def size(self) -> str:
        """Its number of workers in words."""
        fewest, most = self.min_workers, self.max_workers
        if fewest == most == 1:
            return "1 worker"
        return f"{most} workers" if fewest == most else f"{fewest} to {most} workers"

    @property
    def rule(self) -> Rule:
        """The rule with these bounds."""
        return Rule(min_workers=self.min_workers, max_workers=self.max_workers, readers=READERS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Day:
    """What a cluster made of the day. Times are seconds from its begin.

    Attributes:
      cluster: the name of the cluster.
      seconds: its duration.
      series: rates, backlog and latencies over time.
      workers_at_s, workers: the paid workers over time.
      worker_s: paid worker-seconds.
      latency_ms: 50th and 99th percentile of the latency, infinite if that record has no score.
      late_share: share of the records that were late, or never scored.
      max_lag: maximum number of records without a score.
      recovered_s: seconds from the end of the spike until no record is late; None if some always
        are.
      changes: number of changes of the workers.
      restart_s: time of the newest restart; None without.
      not_scored: records without a score, some time after the end of the day.
      extra: scores beyond one for each record.
      known: a worker's true rate.
      sender_late_ms: 99th percentile of the time from when a record was due until it was sent.
      neighbour_cpu_share: CPU of processes that do not take part, as a share of the machine's.
    """

    cluster: str
    seconds: float
    series: Series
    workers_at_s: Floats
    workers: Floats
    worker_s: float
    latency_ms: tuple[float, float]
    late_share: float
    max_lag: int
    recovered_s: float | None
    changes: int
    restart_s: float | None
    not_scored: int
    extra: int
    known: Known
    sender_late_ms: float
    neighbour_cpu_share: float


def prepare_stream(
    flights: Sequence[Path], build: Path, brokers: str, further: Sequence[str]
) -> StreamSubject:
    """Make the model, the records and the client's settings.

    Args:
      flights: files of flights, the first of which has the records.
      build: folder of what is made.
      brokers: the brokers.
      further: further flags of the stream.

    Returns:
      The stream, without its cluster.
    """
    model = build / "models" / "waiting"
    if not model.exists():
        save_waiting(model, us_per_row=US_PER_ROW, column="distance")
    schema, client = build / "autoscale.schema.json", build / "autoscale.properties"
    schema.write_text(f'{{"{KEY}": "int64"}}')
    client.write_text(_CLIENT)
    rows = pq.ParquetFile(flights[0]).read([KEY, *_COLUMNS]).to_pylist()
    return StreamSubject(
        connection=Connection(brokers=brokers),
        argv=(
            f"--model={model}",
            f"--keys={KEY}",
            f"--schema={schema}",
            f"--kafka_config={client}",
            f"--parallelism={READERS}",
            "--exactly_once",
            *further,
        ),
        values=tuple(orjson.dumps(row) for row in rows),
        partitions=PARTITIONS,
    )


def read_times_of_day(flights: Sequence[Path]) -> Floats:
    """Return the scheduled departures of all flights in seconds of their day, in New York."""
    parts = [pq.ParquetFile(file).read(["sched_dep_time"]) for file in flights]
    clock = pa.concat_tables(parts)["sched_dep_time"].to_numpy()
    return (clock // 100 * 3600 + clock % 100 * 60).astype(np.float64)


def plan_day(times_s: Floats, seconds: float) -> Offer:
    """Return a day of flights in so many seconds, at a mean rate, with a spike in it.

    Args:
      times_s: times of day, of which as many are drawn as the day has records.
      seconds: its duration.
    """
    count = int(PER_S * seconds)
    drawn = np.random.default_rng(_SEED).choice(times_s, count)
    day = find_due("trace", count / seconds, seconds, _SEED, trace_s=drawn)
    begin_s = SPIKE_AT * seconds
    more = begin_s + find_due("poisson", PER_S * (SPIKE - 1), SPIKE_S, _SEED)
    return Offer(
        phase="spike",
        shape="trace",
        seed=_SEED,
        due_s=np.sort(np.concatenate([day, more])),
        warm_up_s=0.0,
        window_s=seconds,
        spike_s=(begin_s, begin_s + SPIKE_S),
    )


def run_day(
    subject: StreamSubject,
    flink: FlinkCluster,
    cluster: Cluster,
    offer: Offer,
    folder: Path,
    known: Known,
    say: Callable[[str], None],
) -> Day:
    """Start the stream on a cluster of the smallest size, offer the day, and scale meanwhile.

    Args:
      subject: the stream.
      flink: the cluster that runs.
      cluster: its bounds.
      offer: the day.
      folder: a folder for files.
      known: what is known of a worker before.
      say: gets a line for each change.
    """
    options = (*subject.argv, *flink.arguments)
    subject = dataclasses.replace(subject, argv=options)
    name = f"{cluster.name}-{uuid.uuid4().hex[:6]}"
    flink.cancel_jobs()

    def scale(_: int) -> None:  # the driver asks for as many workers as there are readers
        flink.scale(cluster.min_workers)

    with StreamDriver(subject, folder / name, name, scale) as driver:
        driver.start(workers=READERS)
        lag = GroupLag(subject.connection, driver.topic, driver.topic)
        scaler = Autoscaler(flink, lag, cluster.rule, known=known, say=say)
        scaler.start()
        try:
            window = driver.offer(offer)
        finally:
            scaler.stop()
    shutil.rmtree(folder / name)  # after a failure its logs stay
    return summarize(cluster.name, window, scaler)


def summarize(name: str, window: Window, scaler: Autoscaler) -> Day:
    """Return what a cluster made of a day."""
    latency_s = window.scored_s - window.due_s
    latency_s[np.isnan(latency_s)] = np.inf
    series = bin_window(window)
    at_s = np.array([reading.at_s for reading in scaler.readings]) - window.begin_s
    workers = np.array([float(reading.paid) for reading in scaler.readings])
    assert window.spike_s is not None  # noqa: S101  the day has one
    p50, p99 = np.percentile(latency_s * 1000, [50, 99], method="inverted_cdf")
    return Day(
        cluster=name,
        seconds=window.seconds,
        series=series,
        workers_at_s=at_s,
        workers=workers,
        worker_s=paid_seconds(scaler.readings, window.begin_s, window.end_s),
        latency_ms=(float(p50), float(p99)),
        late_share=float(np.mean(latency_s > LATE_S)),
        max_lag=int(series.backlog.max()),
        recovered_s=find_recovery_s(
            window.due_s - window.begin_s, latency_s, window.spike_s[1] - window.begin_s
        ),
        changes=len(scaler.changes),
        restart_s=scaler.known.restart_s,
        not_scored=int(np.count_nonzero(np.isinf(latency_s))),
        extra=window.extra_ids,
        known=scaler.known,
        sender_late_ms=float(np.percentile(window.sent_s - window.due_s, 99) * 1000),
        neighbour_cpu_share=window.neighbour_cpu_share,
    )


def paid_seconds(readings: Sequence[Reading], begin_s: float, end_s: float) -> float:
    """Return the worker-seconds between two moments.

    A worker is paid from the reading before it was there, when its start began, to the reading
    after it was stopped.
    """
    ends = [readings[0]._replace(at_s=-np.inf), *readings, readings[-1]._replace(at_s=np.inf)]
    return float(
        sum(
            max(before.paid, after.paid)
            * max(0.0, min(after.at_s, end_s) - max(before.at_s, begin_s))
            for before, after in itertools.pairwise(ends)
        )
    )


def find_recovery_s(due_s: Floats, latency_s: Floats, spike_end_s: float) -> float | None:
    """Return the seconds from the end of a spike until no record is late for some seconds.

    Args:
      due_s: due times, sorted.
      latency_s: their latencies, infinite for a record without a score.
      spike_end_s: the end of the spike.
    """
    late_s = due_s[(due_s >= spike_end_s) & (latency_s > LATE_S)]
    edges_s = np.array([spike_end_s, *late_s, due_s[-1]])
    calm = np.flatnonzero(np.diff(edges_s) >= _CALM_S)
    return float(edges_s[calm[0]] - spike_end_s) if calm.size else None
