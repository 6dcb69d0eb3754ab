"""The process that takes the place of the pipeline, to find what sender, broker and reader hold.

    python -m scoreline.pipelines.load_test.driver.echo FOLDER

It copies the key of each record to the topic of scores, and does nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from scoreline.pipelines.load_test.driver.child import end_with_driver
from scoreline.pipelines.load_test.driver.subject import Facts, Subject, tell_facts
from scoreline.transforms.kafka.client import Connection, list_partitions, to_positions

_WAIT_S = 0.02
_TOGETHER = 10_000


def echo(connection: Connection, records: str, scores: str) -> None:
    """Copy keys of records to scores, without an end."""
    consumer = connection.consumer(f"{records}-echo", fetch_queue_backoff_ms=20)
    producer = connection.producer()
    partitions = list_partitions(consumer, records)
    consumer.assign(to_positions(records, dict.fromkeys(partitions, 0)))
    while True:
        first = consumer.poll(_WAIT_S)
        if first is None:
            producer.poll(0)
            continue
        messages = [first, *consumer.consume(_TOGETHER, 0)]
        left: list[dict[str, Any]] = [
            {"key": message.key(), "value": b""} for message in messages if message.error() is None
        ]
        while left:
            producer.produce_batch(scores, left)
            left = [message for message in left if message.pop("_error", None) is not None]
            producer.poll(0.01 if left else 0)


def main() -> int:
    """Echo until the process is stopped."""
    end_with_driver()
    folder = Path(sys.argv[1])
    subject = Subject(**json.loads((folder / "subject.json").read_text()))
    flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in subject.argv)
    tell_facts(folder, Facts(model_digest=""))
    connection = Connection(brokers=flags["brokers"], config=flags.get("kafka_config", ""))
    echo(connection, flags["topic"], flags["output_topic"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
