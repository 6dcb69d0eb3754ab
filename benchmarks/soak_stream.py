"""Soak test of streams with killed workers: no lost records, no duplicates, flat memory.

    python -m benchmarks.soak_stream --brokers 127.0.0.1:9092 --seconds 1800 --rate 200

`make soak-stream` also starts the broker. Four jobs score the same flights as they arrive, at least
once and exactly once. Two jobs run undisturbed; their memory and CPU are sampled. The other two run
under `--restart`, and their workers get SIGKILL at random times. At the end, every job must have
scored every record of the topic, and the exactly-once jobs each record once. The exit code is 1 if
a record is lost or duplicated, a job fails by itself, or the memory of an undisturbed job grows.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.data import Workload
from benchmarks.stream_designs import command_of
from benchmarks.stream_load import start_sending, workload
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.group import read_committed
from scoreline.transforms.kafka.unread import find_unread, read_topic_ends

_PARTITIONS = 4
_SAMPLE_SECONDS = 2.0
# After its first score, a process still allocates memory for its buffers.
_WARM_UP = 0.2
_WARM_UP_SECONDS = 60.0
_MIN_SAMPLES = 10
_KILL_SECONDS = (20.0, 90.0)
_PATIENCE_SECONDS = 300.0


class Job(NamedTuple):
    """One of the jobs: its delivery guarantee, and whether its worker is killed."""

    name: str
    design: str
    is_killed: bool


JOBS = (
    Job("at least once", "scoreline", is_killed=False),
    Job("exactly once", "exactly_once", is_killed=False),
    Job("at least once, killed", "scoreline", is_killed=True),
    Job("exactly once, killed", "exactly_once", is_killed=True),
)


class Growth(NamedTuple):
    """A fitted line through samples of memory: MB at both ends, and slope with standard error."""

    first_mb: float
    last_mb: float
    mb_per_hour: float
    error: float

    def exceeds(self, max_mb_per_hour: float) -> bool:
        """Return whether the growth exceeds a limit by more than two standard errors."""
        return self.mb_per_hour - 2 * self.error > max_mb_per_hour


def fit_growth(samples: Sequence[tuple[float, float]]) -> Growth:
    """Return the line fitted to samples of (seconds, MB)."""
    seconds, mb = np.array(samples).T
    spread = seconds - seconds.mean()
    slope = float((spread * mb).sum() / (spread**2).sum())
    left = mb - mb.mean() - slope * spread
    error = float(np.sqrt((left**2).sum() / max(1, len(mb) - 2) / (spread**2).sum()))
    middle = float(mb.mean())
    ends = (middle + slope * float(spread[0]), middle + slope * float(spread[-1]))
    return Growth(*ends, slope * 3600, error * 3600)


class Result(NamedTuple):
    """The result of a job. Only undisturbed jobs have `growth` and `cores`."""

    job: Job
    exit_code: int
    kills: int
    lost: int
    doubled: int
    growth: Growth | None
    cores: float


def find_failures(results: Sequence[Result], max_mb_per_hour: float) -> list[str]:
    """Return the broken guarantees."""
    failures = []
    for r in results:
        if r.exit_code:
            failures.append(f"{r.job.name}: expected exit code 0, got {r.exit_code}")
        if r.lost:
            failures.append(f"{r.job.name}: {r.lost:,} records were lost")
        # Without a kill of worker or broker, nothing is delivered twice.
        if r.doubled and (r.job.design == "exactly_once" or not r.job.is_killed):
            failures.append(f"{r.job.name}: {r.doubled:,} records were duplicated")
        if r.growth is not None and r.growth.exceeds(max_mb_per_hour):
            failures.append(
                f"{r.job.name}: memory grew by {r.growth.mb_per_hour:.0f} MB/hour, expected at "
                f"most {max_mb_per_hour:.0f}"
            )
    return failures


class _Running:
    """A job's process, and samples of it."""

    def __init__(
        self, job: Job, command: Sequence[str], log: Path, chosen: np.random.Generator
    ) -> None:
        self.job = job
        self._chosen = chosen
        self._began = time.monotonic()
        self._kill_at = self._began + chosen.uniform(*_KILL_SECONDS)
        self.kills = 0
        self.samples: list[tuple[float, float]] = []
        with log.open("wb") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        self._usage = psutil.Process(self.process.pid)
        self._used_before = 0.0

    def begin(self) -> None:
        """Start sampling: the model is loaded, and the job has scored."""
        self._began = time.monotonic()
        self._kill_at = self._began + self._chosen.uniform(*_KILL_SECONDS)
        self._used_before = self._used_seconds()

    def _used_seconds(self) -> float:
        used = self._usage.cpu_times()
        return float(used.user + used.system)

    def look(self) -> None:
        """Take a sample of memory, or kill the worker if it is due.

        Raises:
          RuntimeError: it has ended.
        """
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.job.name} ended with {self.process.returncode}")
        now = time.monotonic()
        if not self.job.is_killed:
            self.samples.append((now - self._began, self._usage.memory_info().rss / 1e6))
        elif now > self._kill_at:
            with contextlib.suppress(psutil.NoSuchProcess):
                for worker in self._usage.children():
                    worker.kill()
                    self.kills += 1
            self._kill_at = now + self._chosen.uniform(*_KILL_SECONDS)

    def cores(self) -> float:
        """Return the number of cores it used since sampling started."""
        used = self._used_seconds() - self._used_before
        return used / (time.monotonic() - self._began)

    def growth(self) -> Growth | None:
        """Return the growth of memory after warm-up; None for a job whose worker is killed.

        Raises:
          RuntimeError: there are too few samples.
        """
        if self.job.is_killed:
            return None
        span = self.samples[-1][0] if self.samples else 0.0
        since = min(max(_WARM_UP_SECONDS, span * _WARM_UP), span / 2)
        warm = [sample for sample in self.samples if sample[0] >= since]
        if len(warm) < _MIN_SAMPLES:
            raise RuntimeError(
                f"{self.job.name}: expected at least {_MIN_SAMPLES} samples of memory, got "
                f"{len(warm)}. Loading took most of the time: use more --seconds"
            )
        return fit_growth(warm)

    def stop(self) -> int:
        """Stop it with SIGTERM, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_PATIENCE_SECONDS)


def read_keys(brokers: str, topic: str) -> collections.Counter[bytes | None]:
    """Return the number of committed records per key in a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "soak-check",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    keys: collections.Counter[bytes | None] = collections.Counter()
    left = set(range(_PARTITIONS))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        while left:
            if time.monotonic() > deadline:
                raise RuntimeError(f"expected to read topic {topic} to its end, got no records")
            for message in consumer.consume(10_000, 0.1):
                error = message.error()
                if error is None:
                    keys[message.key()] += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
    finally:
        consumer.close()
    return keys


@contextlib.contextmanager
def topics_for(brokers: str) -> Iterator[tuple[str, list[str]]]:
    """Create an input topic and an output topic per job; delete them after the block."""
    run = uuid.uuid4().hex[:8]
    topic, outputs = f"soak-{run}", [f"soak-{run}-scores-{number}" for number in range(len(JOBS))]
    admin = AdminClient({"bootstrap.servers": brokers})
    wanted = [NewTopic(name, _PARTITIONS, 1) for name in (topic, *outputs)]
    for made in admin.create_topics(wanted).values():
        made.result(30)
    yield topic, outputs
    for gone in admin.delete_topics([topic, *outputs]).values():
        gone.result(30)


def run(
    brokers: str, rate: int, seconds: float, seed: int, topic: str, outputs: Sequence[str]
) -> list[Result]:
    """Feed and watch all jobs, and return their results.

    Raises:
      RuntimeError: a job ended by itself, or did not score everything within five minutes.
    """
    build = Path("build")
    folder = build / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    work, chosen = workload(build), np.random.default_rng(seed)
    running: list[_Running] = []
    feed = start_sending(brokers, topic, "steady", rate, seconds)
    try:
        for job, output in zip(JOBS, outputs, strict=True):
            command = to_command(job, brokers, topic, output, work)
            log = folder / f"{output}.log"
            running.append(_Running(job, command, log, chosen))
        _wait_for_first_scores(brokers, topic, outputs, running)
        for one in running:
            one.begin()
        while feed.poll() is None:
            time.sleep(_SAMPLE_SECONDS)
            for one in running:
                one.look()
        cores = [one.cores() for one in running]
        growth = [one.growth() for one in running]
        _wait_until_scored(brokers, topic, outputs, running)
        codes = [one.stop() for one in running]
    finally:
        for process in (feed, *(one.process for one in running)):
            _end(process)
    if feed.returncode:
        raise RuntimeError(f"the feed ended with {feed.returncode}")
    sent = read_keys(brokers, topic)
    results = []
    for at, (one, output) in enumerate(zip(running, outputs, strict=True)):
        scored = read_keys(brokers, output)
        lost, doubled = (sent - scored).total(), (scored - sent).total()
        results.append(Result(one.job, codes[at], one.kills, lost, doubled, growth[at], cores[at]))
    return results


def to_command(job: Job, brokers: str, topic: str, output: str, work: Workload) -> list[str]:
    """Return the command of a job; its group has the name of its output topic."""
    command = command_of(job.design, brokers, topic, output, work)
    restart = ["--restart"] if job.is_killed else []
    return [*command, f"--group={output}", *restart]  # the last --group wins


def _wait_for_first_scores(
    brokers: str, topic: str, outputs: Sequence[str], running: Sequence[_Running]
) -> None:
    """Wait until each job has loaded its model; earlier samples of memory are meaningless."""
    connection = Connection(brokers=brokers)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for one, output in zip(running, outputs, strict=True):
        consumer = connection.consumer(output)
        try:
            while not read_committed(consumer, topic, range(_PARTITIONS)):
                if one.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{one.job.name}: expected a score within five minutes")
                time.sleep(1.0)
        finally:
            consumer.close()


def _wait_until_scored(
    brokers: str, topic: str, outputs: Sequence[str], running: Sequence[_Running]
) -> None:
    connection = Connection(brokers=brokers)
    ends = read_topic_ends(connection, topic)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for one, output in zip(running, outputs, strict=True):
        while find_unread(connection, output, topic, ends):
            if one.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{one.job.name}: expected all scores within five minutes of the last record; "
                    "see its log in build/bench"
                )
            time.sleep(1.0)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, if it still runs."""
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


def to_table(results: Sequence[Result]) -> str:
    """Return the results as a table."""
    lines = [
        "| job | kills | lost | doubled | MB warm | MB at the end | MB/hour | cores |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in results:
        g = r.growth
        memory = (
            "| | | |"
            if g is None
            else f"| {g.first_mb:,.0f} | {g.last_mb:,.0f} "
            f"| {g.mb_per_hour:+.1f} ± {2 * g.error:.1f} | {r.cores:.2f} |"
        )
        lines.append(f"| {r.job.name} | {r.kills} | {r.lost:,} | {r.doubled:,} {memory}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the soak and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--rate", type=int, default=200, help="flights in a second")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of when to kill")
    parser.add_argument(
        "--max_mb_per_hour",
        type=float,
        default=30.0,
        help="maximum growth of memory of an undisturbed job (default: 30)",
    )
    given = parser.parse_args(argv)
    if given.seconds < 3 * _WARM_UP_SECONDS or given.rate < 1:
        parser.error(
            f"expected --seconds of at least {3 * _WARM_UP_SECONDS:.0f} and a --rate of at least "
            f"1, got {given.seconds} and {given.rate}"
        )
    print(f"{given.rate} flights/s for {given.seconds:.0f} s, seed {given.seed}", flush=True)
    try:
        with topics_for(given.brokers) as (topic, outputs):
            results = run(given.brokers, given.rate, given.seconds, given.seed, topic, outputs)
    except RuntimeError as e:
        print(e, file=sys.stderr)
        return 1
    print(to_table(results))
    failures = find_failures(results, given.max_mb_per_hour)
    print("\n".join(failures), file=sys.stderr, end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
