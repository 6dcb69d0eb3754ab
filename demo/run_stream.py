"""The stream on real data, on this machine: `make run-stream`.

Replays the flights of November and December 2013 to a topic, in the order of scheduled departure.
Scores them as they arrive, and compares the results with the scores of the batch job.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.dataset
from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic
from rich.console import Console
from rich.live import Live

from demo.data import KEY, PARTITION_COLUMN, prepare_flights
from demo.model import FILLS, OUTPUT, train_flights
from demo.run_local import DATASET, HELD_OUT, MODEL, SCORES, scoring_arguments
from scoreline.lake.table.scores import open_scores
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_WRONG
from scoreline.pipelines.report.console import make_console, say
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.reporter import Reporter
from scoreline.pipelines.score_batch import execute
from scoreline.transforms.kafka.client import Connection, list_partitions, to_positions

FIRST_DAY = HELD_OUT.removeprefix(PARTITION_COLUMN + "=").split("..")[0]
_PARTITIONS = 4
_STALLED_SECONDS = 120.0
_ORDER = ("sched_dep_time", KEY)


def read_flights(limit: int | None) -> pa.Table:
    """Return the flights of the held-out days in the order of scheduled departure."""
    partitioning = pyarrow.dataset.partitioning(
        pa.schema([(PARTITION_COLUMN, pa.string())]), flavor="hive"
    )
    dataset = pyarrow.dataset.dataset(DATASET, partitioning=partitioning)
    wanted = pyarrow.dataset.field(PARTITION_COLUMN) >= FIRST_DAY
    flights = dataset.to_table(filter=wanted)
    flights = flights.sort_by([(c, "ascending") for c in (PARTITION_COLUMN, *_ORDER)])
    return flights.slice(0, limit)


def to_records(flights: pa.Table) -> Iterator[tuple[bytes, bytes]]:
    """Yield each flight's key and its columns as JSON."""
    for batch in flights.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            yield str(row[KEY]).encode(), orjson.dumps(row)


def types_of(schema: pa.Schema) -> str:
    """Return the value of `--schema` for flights: the columns whose types JSON can carry."""
    kinds = {"timestamp[us, tz=UTC]": None, "float": "float32", "double": "float64"}
    named = {field.name: kinds.get(str(field.type), str(field.type)) for field in schema}
    return json.dumps({name: kind for name, kind in named.items() if kind})


class Replay(threading.Thread):
    """Sends flights at a fixed rate, in a background thread."""

    def __init__(self, connection: Connection, topic: str, flights: pa.Table, rate: float) -> None:
        """Create the producer; `rate` is flights per second."""
        super().__init__(daemon=True)
        self._producer = connection.producer()
        self._topic, self._flights, self._rate = topic, flights, rate
        self.sent = 0
        self.error = ""
        self.go_on = threading.Event()

    def run(self) -> None:
        """Send the first flight; when `go_on` is set, send each of the others when it is due."""
        began = time.monotonic()
        try:
            for key, value in to_records(self._flights):
                ahead = self.sent / self._rate - (time.monotonic() - began)
                if ahead > 0.005:
                    time.sleep(ahead)
                self._producer.produce(self._topic, key=key, value=value)
                self._producer.poll(0)
                self.sent += 1
                if not self.go_on.is_set():
                    self._producer.flush()
                    self.go_on.wait()
                    began = time.monotonic()
            self._producer.flush()
        except (KafkaException, BufferError) as e:
            self.error = f"replay stopped: {e}"


class Arrivals:
    """Reads the topic of scores: their number, latency and values."""

    def __init__(self, connection: Connection, topic: str) -> None:
        """Start at the topic's first record."""
        self._consumer = connection.consumer(f"watch-{topic}")
        partitions = list_partitions(self._consumer, topic)
        self._consumer.assign(to_positions(topic, dict.fromkeys(partitions, 0)))
        self.scores: dict[int, float] = {}
        self.records = 0
        self._ages_ms: list[tuple[float, int]] = []

    def read(self, seconds: float) -> None:
        """Read the records that are available, for at most `seconds`."""
        for message in self._consumer.consume(10_000, seconds):
            if message.error() is None:
                value: dict[str, Any] = orjson.loads(message.value() or b"{}")
                self.scores[value[KEY]] = value[OUTPUT]
                self.records += 1
                arrived = message.timestamp()[1]
                self._ages_ms.append((time.monotonic(), arrived - value["event_time_ms"]))

    def line(self, sent: int, total: int) -> str:
        """Return a line with rate, latency and lag of the last 5 s."""
        since = time.monotonic() - 5
        self._ages_ms = [(at, age) for at, age in self._ages_ms if at > since]
        ages = [age for _, age in self._ages_ms] or [0]
        p50, p99 = np.percentile(ages, [50, 99])
        return (
            f"scored {self.records:,} of {total:,} · {len(self._ages_ms) / 5:,.0f}/s · "
            f"p50 {p50:.0f} ms · p99 {p99:.0f} ms · lag {sent - self.records:,}"
        )


def compare(stream: dict[int, float], flights: pa.Table) -> str:
    """Return the difference between the scores of stream and batch job; "" if they are equal."""
    days = sorted(set(flights[PARTITION_COLUMN].to_pylist()))
    wanted = pyarrow.dataset.field(PARTITION_COLUMN).isin(days)
    table = open_scores(SCORES).to_table([KEY, OUTPUT], filter=wanted)
    batch = dict(zip(table[KEY].to_pylist(), table[OUTPUT].to_pylist(), strict=True))
    keys = flights[KEY].to_pylist()
    if missing := [key for key in keys if key not in stream or key not in batch]:
        return f"{len(missing):,} flights are in only one of the two, such as {missing[0]}"
    difference = max(abs(stream[key] - batch[key]) for key in keys)
    return "" if difference <= 1e-5 else f"the scores of a flight differ by up to {difference:.2g}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run all steps; return 0 if each flight has one score, equal to that of the batch job."""
    set_up_logs()
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--rate", type=float, default=2000.0, help="flights per second")
    parser.add_argument("--flights", type=int, help="number of flights (default: all)")
    given, further = parser.parse_known_args(argv)
    console, errors = make_console(), make_console(stderr=True)
    with console.status("preparing flights"):
        prepare_flights(DATASET)
    with console.status("training the model (under a minute)"):
        train_flights(DATASET, MODEL)
    quiet = Reporter("batch", quiet=True)
    if code := execute(scoring_arguments([HELD_OUT]), quiet).exit_code:
        return code
    flights = read_flights(given.flights)
    connection = Connection(brokers=given.brokers)
    run = uuid.uuid4().hex[:8]
    topic, scores = f"flights-{run}", f"flight-scores-{run}"
    wanted = [NewTopic(name, _PARTITIONS, 1) for name in (topic, scores)]
    admin = connection.admin()  # must live until its futures have results
    try:
        for made in admin.create_topics(wanted).values():
            made.result(30)
    except KafkaException as e:
        say(errors, f"--brokers: expected Kafka at {given.brokers} (make kafka-up), got: {e}")
        return EXIT_WRONG
    schema = Path("build/flights.schema.json")
    schema.write_text(types_of(flights.schema))
    command = [
        sys.executable,
        "-m",
        "scoreline",
        "stream",
        f"--brokers={given.brokers}",
    ]
    command += [f"--topic={topic}", f"--output_topic={scores}", f"--group=scoreline-{run}"]
    command += [f"--model={MODEL}", f"--keys={KEY}", f"--schema={schema}", *further]
    command += [f"--fill={name}={value}" for name, value in FILLS.items()]
    scorer = subprocess.Popen(command)
    try:
        code = _watch(connection, topic, scores, flights, given.rate, scorer, console, errors)
    finally:
        scorer.send_signal(signal.SIGTERM)
        ended = scorer.wait()
    return code or ended


def _watch(
    connection: Connection,
    topic: str,
    scores: str,
    flights: pa.Table,
    rate: float,
    scorer: subprocess.Popen[bytes],
    console: Console,
    errors: Console,
) -> int:
    arrivals, total = Arrivals(connection, scores), flights.num_rows
    replay = Replay(connection, topic, flights, rate)
    replay.start()
    last, heard = -1, time.monotonic()
    with Live(console=console, refresh_per_second=4) as live:
        while arrivals.records < total:
            arrivals.read(0.25)
            if arrivals.records:  # the model is loaded
                replay.go_on.set()
            live.update(arrivals.line(replay.sent, total))
            if arrivals.records != last:
                last, heard = arrivals.records, time.monotonic()
            if (
                replay.error
                or scorer.poll() is not None
                or time.monotonic() - heard > _STALLED_SECONDS
            ):
                got = f"Expected {total:,} scored flights, got {arrivals.records:,}"
                say(errors, replay.error or got)
                return EXIT_FAILED
    differs = compare(arrivals.scores, flights)
    doubled = arrivals.records - len(arrivals.scores)
    if differs or doubled:
        say(errors, differs or f"Expected one score per flight, got {doubled:,} more")
        return EXIT_FAILED
    if not console.is_terminal:
        console.print()  # the live line does not end with a line break
    say(console, f"All {total:,} flights have one score, equal to the batch job's ({SCORES}).")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
