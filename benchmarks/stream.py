"""Latency and throughput of a stream at fixed rates, beside a bare loop: `make bench-stream`.

    python -m benchmarks.stream --brokers 127.0.0.1:9092 --rates 50,1000,4000 --seconds 60

Open loop: a process of its own sends flights at a rate, whatever happens to them, and writes
into each when it was due. A flight's latency is from then until its score is read, so that a stall
counts for all that wait in it. Percentiles are over all flights but those of the warm-up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import psutil
import pyarrow.parquet as pq
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.data import KEEP, KEY, Workload

DUE = "due_ms"
DESIGNS = ("bare", "scoreline", "exactly_once")
_FLIGHTS = 20_000
_BATCH = 8192
_PATIENCE_SECONDS = 20.0


class Measured(NamedTuple):
    """One run: what was offered, and what became of it. Latencies in ms; CPU in cores."""

    design: str
    partitions: int
    rate: int
    rows_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    unscored: int
    cpu: float


def workload(build: Path) -> Workload:
    """Return the demo's data and its small model, made if they are not there yet."""
    from models.flights import FILLS, train_flights
    from models.flights_data import prepare_flights

    flights, model = build / "flights", build / "models" / "flights"
    prepare_flights(str(flights))
    train_flights(str(flights), str(model))
    fills = {name: str(value) for name, value in FILLS.items()}
    return Workload(flights=flights, models={"small": model}, keep=KEEP, fills=fills)


def input_names(model: Path) -> list[str]:
    """Return the inputs of a model's signature."""
    from models.inspection import inspect_model

    (signature,) = (s for s in inspect_model(str(model)).signatures if s.name == "serving_default")
    return [spec.name for spec in signature.inputs]


def read_rows(work: Workload, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return flights as they are sent: key, inputs, fills for nulls."""
    rows: list[dict[str, Any]] = []
    for file in sorted(work.flights.glob("*=*/*.parquet")):
        rows += pq.ParquetFile(file).read(columns=[KEY, *names]).to_pylist()
        if len(rows) >= _FLIGHTS:
            break
    return rows[:_FLIGHTS]


def send(brokers: str, topic: str, rate: int, seconds: float, work: Workload) -> None:
    """Send flights at a rate, each when it is due; never waits for anything else."""
    rows = read_rows(work, input_names(work.models["small"]))
    producer = Producer(
        {"bootstrap.servers": brokers, "linger.ms": 1, "queue.buffering.max.messages": 1_000_000}
    )
    began, total = time.time() + 0.5, int(rate * seconds)
    for number in range(total):
        due = began + number / rate
        while (ahead := due - time.time()) > 0.001:
            producer.poll(0)
            time.sleep(ahead)
        row = {**rows[number % len(rows)], KEY: number, DUE: due * 1000}
        producer.produce(topic, key=str(number).encode(), value=orjson.dumps(row))
        if number % 100 == 0:
            producer.poll(0)
    producer.flush()


def bare_loop(brokers: str, topic: str, output: str, group: str, work: Workload) -> None:
    """Consume, call the signature, produce, commit: the least that does it, without any check."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(work.models["small"])).signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    fills = work.fills
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False}
        | {"auto.offset.reset": "earliest"}
    )
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 2})
    consumer.subscribe([topic])
    committed = time.monotonic()
    while True:
        first = consumer.poll(0.5)
        if first is None:
            continue
        messages = [m for m in [first, *consumer.consume(_BATCH - 1, 0)] if m.error() is None]
        rows = [orjson.loads(m.value()) for m in messages]
        columns = {}
        for name, spec in specs.items():
            fill: Any = fills.get(name)
            if fill is not None and spec.dtype != tf.string:
                fill = spec.dtype.as_numpy_dtype(float(fill))
            values = [row[name] if row[name] is not None else fill for row in rows]
            columns[name] = tf.reshape(
                tf.constant(values, spec.dtype), [-1, *(1 for _ in spec.shape[1:])]
            )
        outputs = {
            name: value.numpy().reshape(-1).tolist() for name, value in serve(**columns).items()
        }
        for at, (message, row) in enumerate(zip(messages, rows, strict=True)):
            score = {KEY: row[KEY], DUE: row[DUE]} | {n: v[at] for n, v in outputs.items()}
            producer.produce(output, key=message.key(), value=orjson.dumps(score))
        producer.poll(0)
        if time.monotonic() - committed > 0.1:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed = time.monotonic()


def command_of(
    design: str, brokers: str, topic: str, output: str, work: Workload, folder: Path
) -> list[str]:
    """Return how to start a design."""
    group = f"bench-{topic}"
    if design == "bare":
        return [sys.executable, "-m", "benchmarks.stream", "--bare", brokers, topic, output, group]
    schema = folder / "stream.schema.json"
    schema.write_text(orjson.dumps({KEY: "int64", DUE: "float64"}).decode())
    command = [sys.executable, "-m", "pipelines.score_stream", f"--brokers={brokers}"]
    command += [f"--topic={topic}", f"--output_topic={output}", f"--group={group}"]
    command += [f"--model={work.models['small']}", f"--keys={KEY}", f"--keep={DUE}"]
    command += [f"--schema={schema}", *(f"--fill={n}={v}" for n, v in work.fills.items())]
    return [*command, *(["--exactly_once"] if design == "exactly_once" else [])]


def arrivals(brokers: str, topic: str, partitions: int) -> Iterator[list[tuple[float, float]]]:
    """Yield, for what arrives, when it did and when it had been due, in ms."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "bench-watch", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    try:
        while True:
            first = consumer.poll(0.05)
            messages = [first, *consumer.consume(10_000, 0)] if first is not None else []
            now = time.time() * 1000
            yield [(now, orjson.loads(m.value())[DUE]) for m in messages if m.error() is None]
    finally:
        consumer.close()


@contextlib.contextmanager
def running(
    design: str, brokers: str, partitions: int, work: Workload, build: Path
) -> Iterator[tuple[psutil.Process, str, Any]]:
    """Start a design on topics of its own, and give its process, its topic and what arrives.

    It has scored one flight by then: the model is loaded.
    """
    topic, output = (f"bench-{uuid.uuid4().hex[:8]}-{name}" for name in ("in", "out"))
    admin = AdminClient({"bootstrap.servers": brokers})
    for made in admin.create_topics([NewTopic(n, partitions, 1) for n in (topic, output)]).values():
        made.result(30)
    scorer = subprocess.Popen(
        command_of(design, brokers, topic, output, work, build), stdout=subprocess.DEVNULL
    )
    incoming = arrivals(brokers, output, partitions)
    try:
        (row,) = read_rows(work, input_names(work.models["small"]))[:1]
        producer = Producer({"bootstrap.servers": brokers})
        producer.produce(topic, key=b"warm", value=orjson.dumps({**row, DUE: 0.0}))
        producer.flush()
        deadline = time.monotonic() + 120
        while not next(incoming):
            if time.monotonic() > deadline or scorer.poll() is not None:
                raise RuntimeError(f"expected {design} to score a flight within 120 s")
        yield psutil.Process(scorer.pid), topic, incoming
    finally:
        incoming.close()
        scorer.send_signal(signal.SIGTERM)
        scorer.wait()


def measure(
    design: str,
    brokers: str,
    partitions: int,
    rate: int,
    seconds: float,
    warm_up: float,
    build: Path,
) -> Measured:
    """Run a design at a rate and return what came of it."""
    work = workload(build)
    with running(design, brokers, partitions, work, build) as (process, topic, incoming):
        before = process.cpu_times()
        arguments = ["--send", brokers, topic, str(rate), str(seconds)]
        sender = subprocess.Popen([sys.executable, "-m", "benchmarks.stream", *arguments])
        wanted = int(rate * seconds)
        found: list[tuple[float, float]] = []
        heard = time.monotonic() + 30  # the sender has to start
        while len(found) < wanted and time.monotonic() < heard + _PATIENCE_SECONDS:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError(f"{design} ended while it was measured")
            if some := next(incoming):
                found += some
                heard = time.monotonic()
        used = process.cpu_times()
        sender.kill()
        sender.wait()
    return summarize(design, partitions, rate, found, wanted, warm_up, used, before)


def summarize(
    design: str,
    partitions: int,
    rate: int,
    found: Sequence[tuple[float, float]],
    wanted: int,
    warm_up: float,
    used: Any,
    before: Any,
) -> Measured:
    """Return percentiles and rates of what arrived, but for the warm-up."""
    at, due = np.array(found or [(0.0, 0.0)]).T
    counted = due >= due.min() + warm_up * 1000
    late = np.sort((at - due)[counted])
    p50, p95, p99 = (
        np.percentile(late, [50, 95, 99], method="higher") if late.size else [np.nan] * 3
    )
    span = (at[counted].max() - due[counted].min()) / 1000 if late.size else np.nan
    cpu = used.user + used.system - before.user - before.system
    whole = max((at.max() - due.min()) / 1000, 1e-9)
    return Measured(
        design, partitions, rate, late.size / span, p50, p95, p99, wanted - len(found), cpu / whole
    )


def measure_idle(design: str, brokers: str, seconds: float, build: Path) -> float:
    """Return the cores that a design uses while nothing comes."""
    work = workload(build)
    with running(design, brokers, 1, work, build) as (process, _, _):
        before = process.cpu_times()
        time.sleep(seconds)
        after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / seconds


def print_row(cells: Sequence[object]) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    given_argv = sys.argv[1:] if argv is None else list(argv)
    build = Path("build")
    if given_argv[:1] == ["--send"]:
        brokers, topic, rate, seconds = given_argv[1:]
        send(brokers, topic, int(rate), float(seconds), workload(build))
        return 0
    if given_argv[:1] == ["--bare"]:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        bare_loop(*given_argv[1:], workload(build))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--rates", default="50,1000,4000,8000,16000")
    parser.add_argument("--partitions", default="1,4")
    parser.add_argument("--designs", default=",".join(DESIGNS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm_up", type=float, default=15.0)
    given = parser.parse_args(given_argv)
    print_row(
        [
            "design",
            "partitions",
            "offered/s",
            "scored/s",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "unscored",
            "cores",
        ]
    )
    print_row(["---"] * 2 + ["--:"] * 7)
    for partitions in map(int, given.partitions.split(",")):
        for rate in map(int, given.rates.split(",")):
            for design in given.designs.split(","):
                m = measure(
                    design, given.brokers, partitions, rate, given.seconds, given.warm_up, build
                )
                print_row(
                    [m.design, m.partitions, f"{m.rate:,}", f"{m.rows_per_s:,.0f}"]
                    + [f"{v:.1f}" for v in (m.p50_ms, m.p95_ms, m.p99_ms)]
                    + [m.unscored, f"{m.cpu:.2f}"]
                )
    for design in given.designs.split(","):
        print(f"- {design}: idle, {measure_idle(design, given.brokers, 20, build):.3f} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
