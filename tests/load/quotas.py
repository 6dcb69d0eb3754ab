"""Quotas of a Kafka broker, which its own command sets: Python's client has no call for them."""

from __future__ import annotations

import subprocess

from deploy.local.kafka_broker import Broker, broker_jars


def limit_producer(broker: Broker, client_id: str, bytes_per_s: int) -> None:
    """Let the broker take at most so many bytes per second from producers with a client id.

    It averages over 11 s, and then delays its answers.
    """
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{broker_jars().fetch()}/*"]
    command = ["kafka.admin.ConfigCommand", f"--bootstrap-server={broker.address}", "--alter"]
    entity = ["--entity-type=clients", f"--entity-name={client_id}"]
    quota = f"--add-config=producer_byte_rate={bytes_per_s}"
    subprocess.run([*java, *command, *entity, quota], check=True)
