"""What the command that scales a cluster refuses; `tests/integration` has the scaling itself."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from deploy.local import flink_autoscale
from deploy.local.flink_autoscale import count_running
from deploy.local.flink_cluster import FlinkCluster
from deploy.local.flink_configuration import ClusterSpec
from tests.fakes import ROOT

STREAM = ["--brokers=127.0.0.1:1", "--topic=t", "--group=g"]


@pytest.fixture
def cluster(tmp_path):
    """A cluster of two slots, of whose processes only one runs, and that one sleeps."""
    found = FlinkCluster(tmp_path)
    found.processes.start("jobmanager", ["sleep", "600"], cwd=ROOT, env=os.environ)
    (tmp_path / "cluster.json").write_text(json.dumps(dataclasses.asdict(ClusterSpec())))
    yield found
    found.down()


class Jobs:
    """A JobManager's answers about its jobs, by name."""

    def __init__(self, **jobs):
        self.answers = {
            name: {"state": state, "vertices": [{"status": s, "parallelism": p} for s, p in tasks]}
            for name, (state, *tasks) in jobs.items()
        }

    def jobs(self):
        return [(name, job["state"]) for name, job in self.answers.items()]

    def job_ids(self, name):
        return [name]

    def job(self, job_id):
        return self.answers[job_id]


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ({}, 0),
        ({"one": ("RUNNING", ("RUNNING", 1), ("RUNNING", 4))}, 4),
        ({"one": ("RUNNING", ("RUNNING", 4), ("INITIALIZING", 4))}, 0),
        ({"one": ("RESTARTING", ("CANCELED", 4), ("RUNNING", 4))}, 0),
        ({"old": ("CANCELED", ("CANCELED", 8)), "one": ("RUNNING", ("RUNNING", 2))}, 2),
    ],
)
def test_workers_count_only_if_all_tasks_of_the_job_run(jobs, expected):
    assert count_running(Jobs(**jobs)) == expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (["--max_workers=0"], "expected 1 ≤ min_workers ≤ max_workers ≤ readers, got 1, 0, 0"),
        (["--max_workers=2", "--min_workers=3"], "got 3, 2, 2"),
        (["--max_workers=2", "--worker_per_s=50"], "got none: make flink-up SLOTS=1"),
    ],
)
def test_wrong_bounds_and_a_missing_cluster_are_refused(tmp_path, capsys, bounds, expected):
    assert flink_autoscale.main([f"--folder={tmp_path}", *STREAM, *bounds]) == 1
    assert expected in capsys.readouterr().err


def test_a_cluster_of_several_slots_is_refused(cluster, capsys):
    assert flink_autoscale.main([f"--folder={cluster.folder}", *STREAM, "--max_workers=2"]) == 1
    assert "Expected TaskManagers of one slot, got 2" in capsys.readouterr().err
