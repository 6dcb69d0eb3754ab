"""One worker process of several is killed: the job fails as a whole, and a rerun completes it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from scoreline.pipelines import score_batch, table
from tests.fakes import ROOT, assert_scored_whole, write_lake

pytestmark = pytest.mark.slow


def test_killed_worker_process_fails_the_job_and_never_shortens_a_partition(tmp_path, model):
    lake = write_lake(tmp_path / "lake", days=20, rows=30_000, files=3)
    output = tmp_path / "scores"
    options = [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={output}"]
    job = subprocess.Popen(
        [
            *(sys.executable, "-m", "scoreline", "batch", *options),
            *("--workers=2", "--direct_running_mode=multi_processing"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        worker = _wait_for_staging(job, output)
        worker.kill()
        _, errors = job.communicate(timeout=120)
    finally:
        job.kill()
    assert job.returncode == 1, errors
    assert "The job failed: a worker process died: it was killed, or ran out of memory" in errors
    assert "Traceback" not in errors
    assert "run the same command to continue" in errors
    assert score_batch.main([*options, "--workers=2"]) == 0
    assert_scored_whole(lake, output)
    assert table.main(["verify", f"--output={output}"]) == 0


def _wait_for_staging(job, output):
    """Wait until shards are staged, and return a worker process."""
    until = time.monotonic() + 100
    while time.monotonic() < until and job.poll() is None:
        if len(list((output / "_scoreline" / "receipts").glob("*/*.json"))) > 2:
            children = psutil.Process(job.pid).children(recursive=True)
            workers = [p for p in children if p.name().startswith("python")]
            assert len(workers) >= 2, [p.cmdline() for p in children]
            return workers[0]
        time.sleep(0.05)  # polls for staged files
    raise AssertionError(f"no shard was staged: {job.poll()}")
