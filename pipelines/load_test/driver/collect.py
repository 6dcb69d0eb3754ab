"""The process that reads scores and dead letters, and notes when each could be read.

    python -m scoreline.pipelines.load_test.driver.collect FOLDER

It runs until it is stopped. FOLDER has `collect.json`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
from confluent_kafka import KafkaError

from scoreline.pipelines.load_test.driver.child import end_with_driver
from scoreline.pipelines.load_test.driver.ids import MAX_RECORDS, Seen, open_seen
from scoreline.transforms.kafka.client import Connection, list_partitions, to_positions

_WAIT_S = 0.02
_TOGETHER = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collection:
    """What to read.

    Attributes:
      brokers, config: see `Connection`.
      scores, dead_letters: the topics.
    """

    brokers: str
    config: str
    scores: str
    dead_letters: str


def note(seen: Seen, numbers: list[int], is_dead: bool, now_s: float) -> None:
    """Note records that could be read at a time."""
    known = np.array([n for n in numbers if 0 <= n < MAX_RECORDS], np.int64)
    unique, counts = np.unique(known, return_counts=True)
    is_new = seen.scored_s[unique] == 0
    seen.scored_s[unique[is_new]] = now_s
    seen.is_dead[unique[is_new]] = is_dead
    extra = seen.extra[unique].astype(np.int64) + counts - is_new
    seen.extra[unique] = np.minimum(extra, 255)
    seen.totals[:] += np.array([len(numbers), len(numbers) - known.size])


def collect(folder: Path, what: Collection) -> None:
    """Read both topics from their first record on."""
    connection = Connection(brokers=what.brokers, config=what.config)
    seen = open_seen(folder)
    consumer = connection.consumer(f"{what.scores}-collect", fetch_wait_max_ms=10)
    positions = []
    for topic in (what.scores, what.dead_letters):
        positions += to_positions(topic, dict.fromkeys(list_partitions(consumer, topic), 0))
    consumer.assign(positions)
    try:
        while True:
            first = consumer.poll(_WAIT_S)
            if first is None:
                continue
            messages = [first, *consumer.consume(_TOGETHER, 0)]
            now = time.time()
            numbers: dict[bool, list[int]] = {False: [], True: []}
            for message in messages:
                error = message.error()
                if error is None:
                    number = int(message.key() or b"-1")
                    numbers[message.topic() == what.dead_letters].append(number)
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise RuntimeError(f"reading {message.topic()}: {error.str()}")
            for is_dead, some in numbers.items():
                if some:
                    note(seen, some, is_dead, now)
    finally:
        consumer.close()


def main() -> int:
    """Collect until the process is stopped."""
    end_with_driver()
    folder = Path(sys.argv[1])
    collect(folder, Collection(**json.loads((folder / "collect.json").read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
