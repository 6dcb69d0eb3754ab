"""The load of a stream benchmark: due times of flights, and the process that sends them.

    python -m benchmarks.stream_load BROKERS TOPIC PATTERN RATE SECONDS

It is an open loop: the next flight never waits for the one before.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow.parquet as pq
from confluent_kafka import Producer

from benchmarks.data import KEEP, KEY, Workload

DUE = "due_ms"
PATTERNS = ("steady", "flights", "spike")
SPIKE_FACTOR = 10
SPIKE_SECONDS = 10.0
_FLIGHTS = 20_000


def due_seconds(
    pattern: str, rate: float, seconds: float, departures: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """Return the due time of each flight, in seconds from the start, sorted.

    Args:
      pattern: `steady`: evenly distributed. `flights`: like the scheduled departures of a day,
        compressed to `seconds`. `spike`: steady, with SPIKE_FACTOR times the rate for SPIKE_SECONDS
        from the middle on.
      rate: mean flights per second; for `spike`, the rate outside the spike.
      seconds: duration of the load.
      departures: departures of real flights, in seconds of the day.
    """
    count = int(rate * seconds)
    if pattern == "flights":
        if departures is None or not departures.size:
            raise ValueError("expected departures for the pattern flights, got none")
        at = np.quantile(departures, (np.arange(count) + 0.5) / count, method="inverted_cdf")
        first, last = departures.min(), departures.max()
        return (at - first) / max(last - first, 1e-9) * seconds
    steady = np.arange(count) / rate
    if pattern == "spike":
        more = int(rate * (SPIKE_FACTOR - 1) * SPIKE_SECONDS)
        begins = seconds / 2
        return np.sort(np.concatenate([steady, begins + np.arange(more) * SPIKE_SECONDS / more]))
    return steady


def workload(build: Path) -> Workload:
    """Return the demo's data and its small model; create them if they are missing."""
    from demo.data import prepare_flights
    from demo.model import FILLS, train_flights

    flights, model = build / "flights", build / "models" / "flights"
    prepare_flights(str(flights))
    train_flights(str(flights), str(model))
    fills = {name: str(value) for name, value in FILLS.items()}
    return Workload(flights=flights, models={"small": model}, keep=KEEP, fills=fills)


def input_names(model: Path) -> list[str]:
    """Return the inputs of a model's signature."""
    from scoreline.models.inspection import inspect_model

    (signature,) = (s for s in inspect_model(str(model)).signatures if s.name == "serving_default")
    return [spec.name for spec in signature.inputs]


def read_rows(work: Workload, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return flights as records: key and inputs."""
    rows: list[dict[str, Any]] = []
    for file in sorted(work.flights.glob("*=*/*.parquet")):
        rows += pq.ParquetFile(file).read(columns=[KEY, *names]).to_pylist()
        if len(rows) >= _FLIGHTS:
            break
    return rows[:_FLIGHTS]


def read_departures(work: Workload) -> npt.NDArray[np.float64]:
    """Return the scheduled departures of the first days, in seconds of the day."""
    minute = "sched_dep_minute"
    files = sorted(work.flights.glob("*=*/*.parquet"))[:20]
    columns = [pq.ParquetFile(file).read(columns=[minute])[minute] for file in files]
    return np.concatenate([column.to_numpy() for column in columns]) * 60.0


def send(
    brokers: str, topic: str, pattern: str, rate: float, seconds: float, work: Workload
) -> int:
    """Send each flight when it is due, without any other wait; return the number of flights."""
    rows = read_rows(work, input_names(work.models["small"]))
    departures = read_departures(work) if pattern == "flights" else None
    # Keep the client's default linger.ms (5). One request per millisecond and partition would make
    # the broker use the processors that the measured design needs.
    producer = Producer({"bootstrap.servers": brokers, "queue.buffering.max.messages": 1_000_000})
    began = time.time() + 0.5
    times = due_seconds(pattern, rate, seconds, departures).tolist()
    for number, after in enumerate(times):
        due = began + after
        while (ahead := due - time.time()) > 0.001:
            producer.poll(0)
            time.sleep(ahead)
        row = {**rows[number % len(rows)], KEY: number, DUE: due * 1000}
        producer.produce(topic, key=str(number).encode(), value=orjson.dumps(row))
        if number % 100 == 0:
            producer.poll(0)
    producer.flush()
    return len(times)


def start_sending(
    brokers: str, topic: str, pattern: str, rate: float, seconds: float
) -> subprocess.Popen[bytes]:
    """Start a process that sends flights and then prints their number."""
    load = [brokers, topic, pattern, str(rate), str(seconds)]
    command = [sys.executable, "-m", "benchmarks.stream_load", *load]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


if __name__ == "__main__":
    _, to_brokers, to_topic, in_pattern, at_rate, for_seconds = sys.argv
    demo = workload(Path("build"))
    print(send(to_brokers, to_topic, in_pattern, float(at_rate), float(for_seconds), demo))
