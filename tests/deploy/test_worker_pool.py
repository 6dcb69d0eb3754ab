"""The worker pool of a local cluster; the tests on Flink use its workers."""

from __future__ import annotations

import subprocess
import sys

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

from scoreline.transforms.worker.sampling import SAMPLING_MS
from tests.fakes import ROOT


def test_a_worker_samples_often_without_the_options_of_a_job():
    code = (
        "from deploy.local.worker import prepare\n"
        "prepare()\n"
        "from apache_beam.runners.worker.statesampler import StateSampler\n"
        "from apache_beam.utils.counters import CounterFactory\n"
        "print(StateSampler('step', CounterFactory()).sampling_period_ms)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == SAMPLING_MS


def test_beams_own_pool_stops_the_worker_that_was_started_last_whoever_asks(tmp_path):
    """Both TaskManagers of one machine name their worker `1-1`. If this fails, use Beam's pool."""
    worker = tmp_path / "worker"
    worker.write_text("#!/bin/sh\nexec sleep 300\n")
    worker.chmod(0o755)
    pool = BeamFnExternalWorkerPoolServicer(use_process=True, container_executable=str(worker))
    started = []
    try:
        for _ in ("of the first TaskManager", "of the second"):
            assert not pool.StartWorker(
                beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1"), None
            ).error
            started.append(pool._worker_processes["1-1"])
        pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"), None)
        pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"), None)
        assert started[0].poll() is None
        assert started[1].poll() is not None
    finally:
        for process in started:
            process.kill()
            process.communicate()
