"""A local cluster leaves no files behind that slow down the next one."""

from __future__ import annotations

from deploy.local.flink_cluster import FlinkCluster
from tests.flink import leave_jar


def test_jars_of_jobs_are_removed_when_it_ends_and_savepoints_and_logs_stay(tmp_path):
    leave_jar(tmp_path)
    kept = [tmp_path / "state" / "savepoints" / "savepoint-1", tmp_path / "logs" / "jobmanager.log"]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.touch()
    FlinkCluster(tmp_path).down()
    assert not (tmp_path / "tmp").exists()
    assert all(path.exists() for path in kept)
