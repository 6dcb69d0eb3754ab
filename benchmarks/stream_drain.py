"""Maximum throughput of a stream with a backlog, against a bare loop.

    python -m benchmarks.stream_drain --brokers 127.0.0.1:9092 --rows 400000 --repeats 3

Each design starts, scores one flight, and is then stopped (SIGSTOP) while all flights are sent.
After that it shares the processors only with the broker, so its rate is its maximum. The time is
from the first to the last score by the broker's timestamps. Designs take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.data import KEY, Workload
from benchmarks.stream import print_row
from benchmarks.stream_designs import BUILD, DESIGNS, Case, running
from benchmarks.stream_load import DUE, input_names, read_rows, workload

_PATIENCE_SECONDS = 30.0


def send_all(brokers: str, topic: str, rows: int, work: Workload) -> None:
    """Send flights as fast as the broker accepts them."""
    flights = read_rows(work, input_names(work.models["small"]))
    producer = Producer({"bootstrap.servers": brokers})
    for number in range(rows):
        row = {**flights[number % len(flights)], KEY: number, DUE: 1.0}
        while True:
            try:
                producer.produce(topic, key=str(number).encode(), value=orjson.dumps(row))
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def drained_seconds(brokers: str, topic: str, partitions: int, rows: int) -> float:
    """Wait until a topic holds `rows` scores, and return the time from the first to the last.

    The very first score belongs to the warm-up flight and does not count.

    Raises:
      RuntimeError: no score arrived for a while.
    """
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "bench-drain", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    try:
        there, heard = 0, time.monotonic()
        while (now := _count(consumer, topic, partitions)) < rows + 1:
            if now != there:
                there, heard = now, time.monotonic()
            if time.monotonic() - heard > _PATIENCE_SECONDS:
                raise RuntimeError(f"expected {rows:,} scores, got {now:,}")
            time.sleep(0.5)
        stamps: list[int] = []
        while len(stamps) < rows + 1:
            messages = consumer.consume(10_000, 1.0)
            if not messages:
                raise RuntimeError(f"expected {rows + 1:,} scores, read {len(stamps):,}")
            stamps += [m.timestamp()[1] for m in messages if m.error() is None]
    finally:
        consumer.close()
    stamps.sort()
    return (stamps[-1] - stamps[1]) / 1000


def _count(consumer: Consumer, topic: str, partitions: int) -> int:
    return sum(
        consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
        for number in range(partitions)
    )


def measure_drain(design: str, brokers: str, partitions: int, rows: int) -> tuple[float, float]:
    """Return rows per second of a design, and the cores that it used."""
    work = workload(BUILD)
    case = Case(design=design, pattern="drain", partitions=partitions, rate=0, seconds=0, warm_up=0)
    with running(case, brokers, work) as running_design:
        running_design.incoming.close()
        processes = running_design.scorers()
        time.sleep(2)  # for background work of the start-up
        for each in processes:
            each.suspend()
        send_all(brokers, running_design.topic, rows, work)
        before, _ = running_design.used()
        for each in processes:
            each.resume()
        seconds = drained_seconds(brokers, running_design.output, partitions, rows)
        after, _ = running_design.used()
        return rows / seconds, (after - before) / seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--designs", default="bare,scoreline,target_100,exactly_once")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(argv)
    designs = given.designs.split(",")
    if set(designs) - set(DESIGNS):
        parser.error(f"expected designs of {', '.join(DESIGNS)}, got {given.designs}")
    found: dict[str, list[tuple[float, float]]] = {design: [] for design in designs}
    for _ in range(given.repeats):
        for design in designs:
            found[design].append(measure_drain(design, given.brokers, given.partitions, given.rows))
            print(design, *(f"{value:,.2f}" for value in found[design][-1]), file=sys.stderr)
    print_row(["design", "partitions", "rows/s", "× the first", "CPU µs/row"])
    print_row(["---", "--:", "--:", "--:", "--:"])
    first = statistics.median(rate for rate, _ in found[designs[0]])
    for design, runs in found.items():
        rate = statistics.median(rate for rate, _ in runs)
        cost = statistics.median(cores / rate for rate, cores in runs) * 1e6
        print_row(
            [design, str(given.partitions), f"{rate:,.0f}", f"{rate / first:.2f}", f"{cost:.1f}"]
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
