"""Other ways to run on Flink: a job server, workers of a TaskManager, checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from deploy.local.processes import free_ports, wait_for
from scoreline.pipelines import score_batch
from scoreline.pipelines.runners.flink_options import job_server_jar
from tests.fakes import ROOT, read_scores, write_file
from tests.flink import make_ready

pytestmark = [pytest.mark.flink, pytest.mark.timeout(400)]
DAYS, ROWS = 4, 500


@pytest.fixture
def cluster(flink_cluster):
    """The cluster, repaired: no job, and one TaskManager with two slots."""
    make_ready(flink_cluster, task_managers=1, slots=2)
    return flink_cluster


@pytest.fixture
def options_of(cluster, zoo, tmp_path):
    """Return a function that makes the command line of a small job from options."""
    lake = tmp_path / "lake"
    for day in range(DAYS):
        ids = np.arange(day * ROWS, (day + 1) * ROWS)
        numbers = (ids % 97).astype(np.float32)
        rows = pa.table({"id": ids, "a": numbers, "b": -numbers})
        write_file(lake, f"date=2024-01-{day + 1:02d}", "0.parquet", rows)

    def make(*more):
        own = {flag.partition("=")[0] for flag in more}
        usual = [flag for flag in cluster.arguments if flag.partition("=")[0] not in own]
        return [
            f"--input={lake}",
            f"--model={zoo('model.tflite')}",
            "--keys=id",
            f"--output={tmp_path / 'scores'}",
            *usual,
            *more,
        ]

    return make


def assert_right(output):
    rows = read_scores(output).to_pylist()
    assert sorted(row["id"] for row in rows) == list(range(DAYS * ROWS))
    assert all(row["y"] == row["id"] % 97 for row in rows)


@pytest.fixture
def job_server(cluster, tmp_path):
    """Start Beam's job server for the cluster, from the jar of jobs; return its address."""
    port, artifacts, expansion = free_ports(3)
    command = ["java", "-jar", job_server_jar(), f"--flink-master={cluster.master}"]
    command += ["--job-host=127.0.0.1", f"--job-port={port}", f"--artifact-port={artifacts}"]
    command += [f"--expansion-port={expansion}", f"--artifacts-dir={tmp_path / 'artifacts'}"]
    log = tmp_path / "job_server.log"
    with log.open("w") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        assert wait_for(lambda: "Job server now running" in log.read_text(), 150), log.read_text()
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(150)


def test_by_a_job_server_with_a_model_for_each_slot_and_checkpoints(
    cluster, options_of, job_server, tmp_path, capsys
):
    argv = options_of(
        f"--job_endpoint={job_server}",
        "--model_sharing=process",
        "--checkpointing_interval=1000",
        f"--state_backend_storage_path=file://{tmp_path / 'checkpoints'}",
        "--state_backend=filesystem",
    )
    assert score_batch.main(argv) == 0, capsys.readouterr()
    assert_right(tmp_path / "scores")


def test_workers_that_the_task_manager_starts_itself(cluster, options_of, tmp_path, capsys):
    # The contract of Beam's containers: an executable that gets its id and an endpoint.
    boot = tmp_path / "boot"
    boot.write_text(
        f"#!{sys.executable}\n"
        "import grpc, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from apache_beam.portability.api.org.apache.beam.model.fn_execution.v1 import (\n"
        "    beam_provision_api_pb2 as messages, beam_provision_api_pb2_grpc as services)\n"
        "from apache_beam.runners.worker.sdk_worker import SdkHarness\n"
        "from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor\n"
        "given = dict(flag[2:].split('=', 1) for flag in sys.argv[1:])\n"
        "channel = grpc.insecure_channel(given['provision_endpoint'])\n"
        "channel = grpc.intercept_channel(channel, WorkerIdInterceptor(given['id']))\n"
        "stub = services.ProvisionServiceStub(channel)\n"
        "told = stub.GetProvisionInfo(messages.GetProvisionInfoRequest()).info\n"
        "SdkHarness(told.control_endpoint.url, worker_id=given['id']).run()\n"
    )
    boot.chmod(0o755)
    argv = options_of(
        "--environment_type=PROCESS",
        f"--environment_config={json.dumps({'command': str(boot)})}",
    )
    assert score_batch.main(argv) == 0, capsys.readouterr()
    assert_right(tmp_path / "scores")
