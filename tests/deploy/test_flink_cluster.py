"""The cluster on this machine leaves nothing behind that makes the next one slow."""

from __future__ import annotations

import pytest

from tests.flink import start_cluster

pytestmark = [pytest.mark.flink, pytest.mark.timeout(300)]


def test_jars_of_earlier_jobs_are_removed_when_it_starts_and_when_it_ends(tmp_path):
    jar = tmp_path / "tmp" / "tm_taskmanager-1" / "blobStorage" / "job_0" / "blob_p-0"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"of a job that is over")
    with start_cluster(tmp_path, 1) as cluster:
        slots = cluster.slots()
        assert (slots.task_managers, slots.total) == (1, cluster.spec.slots)
        assert not jar.exists()
        assert list((tmp_path / "tmp").glob("tm_taskmanager-1/blobStorage"))
        savepoint = tmp_path / "state" / "savepoints" / "kept"
        savepoint.mkdir(parents=True)
        cluster.down()
    assert not (tmp_path / "tmp").exists()
    assert savepoint.exists()
    assert (tmp_path / "logs" / "jobmanager.log").exists()
