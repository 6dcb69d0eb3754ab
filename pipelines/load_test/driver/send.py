"""The process that sends records when they are due.

    python -m scoreline.pipelines.load_test.driver.send FOLDER

It is an open loop: a record never waits for an earlier one, so that a slow pipeline cannot slow its
load down ("coordinated omission"). FOLDER has `load.json`, `values.arrow` and `due_s.npy`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from confluent_kafka import Producer

from scoreline.pipelines.load_test.driver.child import end_with_driver
from scoreline.pipelines.load_test.driver.ids import open_sent
from scoreline.pipelines.load_test.judge.elements import Floats
from scoreline.transforms.kafka.client import Connection

# A sleep is longer than asked for, by some 60 µs; below it the loop only looks at the clock.
_MIN_SLEEP_S = 0.0005
_MAX_TOGETHER = 500
_FLUSH_S = 30.0
# The client queues what the broker has not acknowledged: so much of the load, then a record waits,
# and is late. In a longer queue a broker that takes too little would look like a slow pipeline.
_MAX_QUEUED_S = 0.1
_MIN_QUEUED = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """What to send.

    Attributes:
      brokers, config: see `Connection`.
      topic: the topic.
      partitions: the partition of record `i` is `partitions[i % len(partitions)]`.
      first: number of the first record.
      count: number of records.
      begin_s: when the first moment of `due_s.npy` is, by the clock of `time.time`; 0 to send at
        once, as quickly as the broker takes them.
    """

    brokers: str
    config: str
    topic: str
    partitions: tuple[int, ...]
    first: int
    count: int
    begin_s: float


def write_load(folder: Path, load: Load, due_s: np.ndarray | None) -> None:
    """Write the files of a load, except for the values."""
    if due_s is not None:
        np.save(folder / "due_s.npy", due_s)
    (folder / "load.json").write_text(json.dumps(dataclasses.asdict(load)))


def write_values(folder: Path, values: Sequence[bytes]) -> None:
    """Write the values of records; record `i` has value `i % len(values)`."""
    batch = pa.record_batch({"value": pa.array(values, pa.large_binary())})
    with (
        pa.OSFile(str(folder / "values.arrow"), "wb") as file,
        pa.ipc.new_file(file, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def read_values(folder: Path) -> list[bytes]:
    """Return the values of records."""
    with pa.OSFile(str(folder / "values.arrow"), "rb") as file:
        values: list[bytes] = pa.ipc.open_file(file).read_all()["value"].to_pylist()
    return values


def max_queued(due_s: Floats) -> int:
    """Return how many records of a load its client may hold."""
    seconds = float(due_s[-1] - due_s[0])
    return max(_MIN_QUEUED, int(_MAX_QUEUED_S * len(due_s) / seconds)) if seconds else _MIN_QUEUED


def send(folder: Path, load: Load) -> None:
    """Send all records of a load, and note when each was handed to the client."""
    values, sent = read_values(folder), open_sent(folder)
    connection = Connection(brokers=load.brokers, config=load.config)
    if load.begin_s:
        due = np.load(folder / "due_s.npy") + load.begin_s
        producer = connection.producer(queue_buffering_max_messages=max_queued(due))
    else:
        due = np.zeros(load.count)
        producer = connection.producer()
    number, end = load.first, load.first + load.count
    while number < end:
        now = time.time()
        ahead = float(due[number - load.first]) - now
        if ahead > 0:
            producer.poll(0)
            if ahead > _MIN_SLEEP_S:
                time.sleep(ahead - _MIN_SLEEP_S / 2)
            continue
        until = load.first + int(np.searchsorted(due, now, side="right"))
        stop = min(until, number + _MAX_TOGETHER)
        by_partition: dict[int, list[dict]] = {}
        for i in range(number, stop):
            message = {"key": b"%d" % i, "value": values[i % len(values)]}
            by_partition.setdefault(load.partitions[i % len(load.partitions)], []).append(message)
        for partition, messages in by_partition.items():
            _hand_over(producer, load.topic, partition, messages)
        sent[number:stop] = now
        number = stop
        producer.poll(0)
    left = producer.flush(_FLUSH_S)
    if left:
        raise TimeoutError(f"expected the broker to take all records, {left} were not acknowledged")


def _hand_over(producer: Producer, topic: str, partition: int, messages: list[dict]) -> None:
    """Hand records to the client; wait while its queue is full.

    The client ignores the partition of a single message of a batch (confluent-kafka 2.16).
    """
    left = messages
    while left:
        producer.produce_batch(topic, left, partition)
        left = [message for message in left if message.pop("_error", None) is not None]
        if left:
            producer.poll(0.01)


def main() -> int:
    """Send the load in a folder."""
    end_with_driver()
    folder = Path(sys.argv[1])
    given = json.loads((folder / "load.json").read_text())
    send(folder, Load(**{**given, "partitions": tuple(given["partitions"])}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
