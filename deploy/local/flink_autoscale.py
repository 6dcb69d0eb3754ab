"""Adds and removes TaskManagers of the local Flink cluster as the load of its stream demands.

    python -m deploy.local.flink_autoscale --brokers HOST:PORT --topic T --group G --max_workers 4

The cluster has TaskManagers of one slot and the adaptive scheduler, the stream has as many
`--readers` and as much `--parallelism` as the most workers. `make flink-autoscale` shows it.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaException

from deploy.local.flink_cluster import FOLDER, ClusterFailed, FlinkCluster
from deploy.local.scaling_rule import UNKNOWN, Decision, Known, Load, Reading, Rule, decide, observe
from scoreline.pipelines.runners.flink_rest import ENDED, FlinkRest
from scoreline.transforms.kafka.client import Connection, list_partitions, read_high_watermarks
from scoreline.transforms.kafka.group import read_offsets_with_ids

_EVERY_S = 1.0


class Change(NamedTuple):
    """Workers that were added or removed."""

    at_s: float
    before: int
    decision: Decision


class GroupLag:
    """The records of a topic, and those of them that a group has committed."""

    def __init__(self, connection: Connection, topic: str, group: str) -> None:
        """Look up the partitions of the topic.

        Raises:
          LookupError: there is no such topic.
          KafkaException: no broker answers.
        """
        self._client = connection.admin()
        self._topic, self._group = topic, group
        self._partitions = list_partitions(self._client, topic)

    def read(self) -> tuple[int, int]:
        """Return the offsets of the topic's ends, and those of the group, summed up.

        Raises:
          KafkaException: no broker answers.
        """
        # The group first: what is committed between the two requests is not below zero then.
        done = read_offsets_with_ids(self._client, self._group, self._topic, self._partitions)
        ends = read_high_watermarks(self._client, self._topic, self._partitions)
        return sum(ends.values()), sum(at.offset for at in done.values())


def count_running(rest: FlinkRest) -> int:
    """Return the workers of the cluster's job; 0 unless all of its tasks run.

    Raises:
      OSError: the JobManager does not answer.
    """
    names = {name for name, state in rest.jobs() if state not in ENDED}
    jobs = [rest.job(job_id) for name in names for job_id in rest.job_ids(name)]
    vertices = [vertex for job in jobs if job["state"] == "RUNNING" for vertex in job["vertices"]]
    if not vertices or {vertex["status"] for vertex in vertices} != {"RUNNING"}:
        return 0
    return max(int(vertex["parallelism"]) for vertex in vertices)


class Autoscaler(threading.Thread):
    """Reads the load of the cluster's stream, and sets its TaskManagers, until it is stopped.

    Attributes:
      readings: what it read.
      changes: what it changed.
      known: the newest true rate of a worker, and the newest time of a restart.
    """

    def __init__(
        self,
        cluster: FlinkCluster,
        lag: GroupLag,
        rule: Rule,
        *,
        known: Known = UNKNOWN,
        say: Callable[[str], None] = print,
    ) -> None:
        """Start nothing yet.

        Args:
          cluster: the cluster, which runs.
          lag: the lag of the stream.
          rule: bounds and targets.
          known: a worker's true rate, as a load test gives it.
          say: gets a line for each change.
        """
        super().__init__(daemon=True, name="autoscaler")
        self._cluster, self._lag, self._rule, self._say = cluster, lag, rule, say
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self.readings: list[Reading] = []
        self.changes: list[Change] = []
        self.known = known

    def run(self) -> None:
        """Look and act once a second."""
        try:
            while not self._stopped.wait(_EVERY_S):
                self.step()
        except (ClusterFailed, KafkaException, LookupError) as e:
            self._failure = e

    def stop(self) -> None:
        """End after the current step.

        Raises:
          ClusterFailed, KafkaException, LookupError: what ended it before.
        """
        self._stopped.set()
        self.join()
        if self._failure is not None:
            raise self._failure

    @property
    def is_working(self) -> bool:
        """Whether it has not ended by a failure."""
        return self._failure is None

    def step(self) -> None:
        """Look once, and add or remove TaskManagers if the rule demands it."""
        try:
            reading = self._read()
        except OSError:  # a JobManager that is busy with a restart; look again
            return
        self.readings.append(reading)
        load = observe(self.readings, self._rule, self.known)
        if load is None:
            return
        self.known = Known(load.worker_per_s, load.restart_s)
        decision = decide(load, self._rule)
        if decision.workers != load.workers:
            self._scale(load, decision)

    def _read(self) -> Reading:
        sent, done = self._lag.read()
        running, paid = count_running(self._cluster.rest), len(self._cluster.task_managers())
        return Reading(time.time(), sent, done, running, paid)

    def _scale(self, load: Load, decision: Decision) -> None:
        self.changes.append(Change(time.time(), load.workers, decision))
        self._say(f"{load.workers} → {decision.workers} workers: {decision.because}")
        self._cluster.scale(decision.workers)


def main(argv: Sequence[str] | None = None) -> int:
    """Scale the cluster until SIGINT; return 0, or 1 if it fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--folder", default=FOLDER, help=f"of the cluster; default: {FOLDER}")
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--min_workers", type=int, default=1)
    parser.add_argument("--max_workers", type=int, required=True, help="and readers of the stream")
    parser.add_argument("--worker_per_s", type=float, help="true rate of a worker, if it is known")
    given = parser.parse_args(argv)
    try:
        most = given.max_workers
        rule = Rule(min_workers=given.min_workers, max_workers=most, readers=most)
        cluster = FlinkCluster(given.folder)
        if not cluster.processes.running():
            raise ClusterFailed(  # noqa: TRY301
                f"Expected a cluster in {cluster.folder}, got none: make flink-up SLOTS=1"
            )
        if cluster.spec.slots != 1:
            raise ClusterFailed(  # noqa: TRY301
                f"Expected TaskManagers of one slot, got {cluster.spec.slots}: make flink-scale "
                "TASKMANAGERS=1 SLOTS=1"
            )
        lag = GroupLag(Connection(brokers=given.brokers), given.topic, given.group)
        scaler = Autoscaler(cluster, lag, rule, known=Known(given.worker_per_s))
        while True:
            scaler.step()
            time.sleep(_EVERY_S)
    except KeyboardInterrupt:
        return 0
    except (ClusterFailed, KafkaException, LookupError, ValueError) as e:
        sys.stderr.write(f"{e}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
