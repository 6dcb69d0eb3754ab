"""The job on a real Flink cluster gives the same table, also if parts of the cluster fail."""

from __future__ import annotations

import re
from concurrent import futures

import grpc
import numpy as np
import psutil
import pyarrow as pa
import pytest
import requests
from apache_beam.portability.api import beam_fn_api_pb2_grpc

from deploy.local import worker_pool
from deploy.local.processes import free_ports, wait_for
from scoreline.pipelines import score_batch, table
from scoreline.pipelines.runners.versions import FLINK_VERSION
from tests.fakes import read_scores, score_counted, write_file
from tests.flink import Job, kill_workers

pytestmark = [pytest.mark.flink, pytest.mark.timeout(600)]

DAYS, ROWS = 40, 2_000
TOTAL = DAYS * ROWS


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Forty days of one shard each, for the model y = 2·a + b."""
    root = tmp_path_factory.mktemp("flink-lake") / "lake"
    for day in range(DAYS):
        ids = np.arange(day * ROWS, (day + 1) * ROWS)
        numbers = (ids % 97).astype(np.float32)
        rows = pa.table({"id": ids, "a": numbers, "b": -numbers})
        write_file(root, f"date=2024-{day // 28 + 1:02d}-{day % 28 + 1:02d}", "0.parquet", rows)
    return str(root)


@pytest.fixture
def options_of(cluster, lake, zoo, tmp_path):
    """Return a function that makes the command line of a job on the cluster.

    Small batches make the job long enough to interrupt it.
    """

    def make(*more):
        return [
            f"--input={lake}",
            f"--model={zoo('model.tflite')}",
            "--keys=id",
            f"--output={tmp_path / 'scores'}",
            "--batch_rows=50",
            *cluster.arguments,
            *more,
        ]

    return make


def staged(output):
    return len(list((output / "_scoreline" / "receipts").glob("*/*-scores.json")))


def assert_right(output):
    rows = read_scores(output).to_pylist()
    assert sorted(row["id"] for row in rows) == list(range(TOTAL))
    assert all(row["y"] == row["id"] % 97 for row in rows)
    assert table.main(["verify", f"--output={output}"]) == 0


def running_jobs(cluster):
    jobs = requests.get(f"http://{cluster.master}/v1/jobs/overview", timeout=10).json()["jobs"]
    return [job for job in jobs if job["end-time"] < 0]


def details(cluster, job):
    return cluster.rest.job(job["jid"])


def rows_scored(cluster, job):
    """Return the sum of our counter over a job's subtasks, from Flink's REST interface."""
    total = 0
    for vertex in details(cluster, job)["vertices"]:
        path = f"jobs/{job['jid']}/vertices/{vertex['id']}/subtasks/metrics"
        url = f"http://{cluster.master}/v1/{path}"
        names = [m["id"] for m in requests.get(url, timeout=10).json()]
        for name in [n for n in names if n.endswith("scoreline_rows_scored")]:
            found = requests.get(url, params={"get": name, "agg": "sum"}, timeout=10).json()
            total += int(found[0]["sum"])
    return total


def scraped(ports, text):
    """Return the lines about a metric from all reporters."""
    lines = []
    for port in ports:
        try:
            page = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        except requests.ConnectionError:
            continue
        lines += [line for line in page.splitlines() if text in line and not line.startswith("#")]
    return lines


def test_jars_of_earlier_jobs_are_removed_when_a_task_manager_starts(flink_cluster):
    folder = flink_cluster.folder / "tmp"
    assert list(folder.glob("tm_taskmanager-*/blobStorage"))
    assert not list(folder.rglob("job_0"))


def test_two_task_managers_give_the_table_of_a_local_run(
    cluster, lake, options_of, tmp_path, reporter_ports
):
    assert cluster.rest.version() == FLINK_VERSION
    # Flink gets counters at the end of a bundle, so one bundle of all shards would be too late.
    job = Job(tmp_path, *options_of("--batch_rows=10", "--max_bundle_size=2"))
    job.wait_for("a worker of each TaskManager", lambda: len(cluster.workers()) == 2)
    (running,) = running_jobs(cluster)
    assert re.fullmatch(
        r"scoreline date=2024-01-01\.\.2024-02-12 model [0-9a-f]{12} [0-9a-f]{8}", running["name"]
    )
    job.wait_for("counters in REST", lambda: rows_scored(cluster, running) > 0)
    job.wait_for("counters in Prometheus", lambda: scraped(reporter_ports, "rows_scored"))
    assert all("scoreline" in line for line in scraped(reporter_ports, "rows_scored"))
    steps = {vertex["parallelism"] for vertex in details(cluster, running)["vertices"]}
    assert steps == {1, 2}  # the step that creates the shards has 1
    ended = job.end()
    assert ended.code == 0, ended
    assert re.search(r"rows/s .* 2 workers", ended.out)
    assert re.search(r"time +read \d+ %", ended.out)  # the launcher got counters
    assert not requests.get(f"http://{cluster.master}/v1/jars", timeout=10).json()["files"]

    local = tmp_path / "local"
    flags = [o for o in options_of() if o.partition("=")[0] in ("--input", "--model", "--keys")]
    assert score_batch.main([*flags, f"--output={local}"]) == 0
    ours, theirs = (read_scores(path).sort_by("id") for path in (tmp_path / "scores", local))
    assert ours.equals(theirs)
    assert_right(tmp_path / "scores")


def test_an_added_task_manager_is_used_and_a_killed_one_costs_no_row(cluster, options_of, tmp_path):
    output = tmp_path / "scores"
    # For Flink a TaskManager that returns is new, and it returns sooner than Java would start.
    second = psutil.Process(cluster.processes.recorded()[cluster.task_managers()[1]].pid)
    second.suspend()
    assert wait_for(lambda: cluster.rest.slots().task_managers == 1, 120)
    job = Job(tmp_path, *options_of("--parallelism=2", "--batch_rows=10"))
    job.wait_for("shards by one worker", lambda: staged(output) >= 1)
    assert len(cluster.workers()) == 1
    second.resume()
    job.wait_for("a second worker", lambda: len(cluster.workers()) == 2)
    before = staged(output)
    job.wait_for("shards by two workers", lambda: staged(output) >= before + 3)
    psutil.Process(cluster.processes.recorded()[cluster.task_managers()[0]].pid).kill()
    ended = job.end()
    cluster.scale(2)
    assert ended.code == 0, ended
    assert "Flink restarts the job" in ended.out
    assert_right(output)


def test_a_killed_worker_without_retries_fails_the_job_and_a_rerun_goes_on(
    cluster, options_of, tmp_path
):
    output = tmp_path / "scores"
    job = Job(tmp_path, *options_of("--number_of_execution_retries=0"))
    job.wait_for("staged shards", lambda: staged(output) >= 3)
    kill_workers(cluster)
    ended = job.end()
    assert ended.code == 1, ended
    assert re.search(r"The job failed: .*(SDK|closed|cancelled|CANCELLED|UNAVAILABLE)", ended.err)
    assert "run the same command to continue" in ended.err
    assert not running_jobs(cluster)
    left = TOTAL - staged(output) * ROWS
    code, counters = score_counted(options_of())
    assert code == 0
    assert counters["rows_read"] <= left < TOTAL
    assert_right(output)


def test_ctrl_c_cancels_the_job(cluster, options_of, tmp_path):
    # One worker, which has started: Flink forgets one that is still starting, for a minute or two.
    job = Job(tmp_path, *options_of("--parallelism=1", "--batch_rows=10"))
    job.wait_for("staged shards", lambda: staged(tmp_path / "scores"))
    (running,) = running_jobs(cluster)
    job.interrupt()
    ended = job.end()
    assert ended.code == 130, ended
    assert "Stopped." in ended.err
    assert details(cluster, running)["state"] == "CANCELED"
    assert wait_for(lambda: not cluster.workers(), 120)


def test_a_job_that_flink_refuses_ends_with_flinks_reason(options_of, capsys):
    assert score_batch.main(options_of("--parallelism=2", "--max_parallelism=1")) == 1
    assert "max parallelism" in capsys.readouterr().err


def test_workers_that_never_come_end_the_job_in_time(cluster, options_of, tmp_path, monkeypatch):
    """With a pool whose interpreter ends at once, the job would stay RUNNING for ever."""
    monkeypatch.setattr(worker_pool, "PYTHON", "/bin/true")
    (port,) = free_ports(1)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    pool = worker_pool.WorkerPool()
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        job = Job(
            tmp_path,
            *options_of("--submit_timeout_s=15", f"--environment_config=127.0.0.1:{port}"),
        )
        ended = job.end()
    finally:
        server.stop(None)
        pool.stop()
    assert ended.code == 1, ended
    assert "Expected output of a step in 15 s (--submit_timeout_s)" in ended.err
    assert f"EXTERNAL 127.0.0.1:{port}" in ended.err
    assert not running_jobs(cluster)


def test_a_killed_job_manager_ends_the_command_and_a_rerun_goes_on(cluster, options_of, tmp_path):
    output = tmp_path / "scores"
    job = Job(tmp_path, *options_of())
    job.wait_for("staged shards", lambda: staged(output) >= 3)
    job_manager = psutil.Process(cluster.processes.recorded()["jobmanager"].pid)
    job_manager.kill()
    job_manager.wait(150)
    cluster.up(cluster.spec, 2)
    ended = job.end()
    assert ended.code == 1, ended
    assert "does not have the job any more: its JobManager restarted" in ended.err
    assert score_batch.main(options_of()) == 0
    assert_right(output)


def test_options_that_no_cluster_can_run_are_refused_at_once(options_of, capsys):
    code = score_batch.main(
        options_of(
            "--submit_timeout_s=never", "--savepoint_pth=x", "--flink_job_server_jar=none.jar"
        )
    )
    told = capsys.readouterr().err
    assert code == 2
    for text in (
        "--submit_timeout_s: expected a whole number of at least 1, got 'never'",
        "unknown option --savepoint_pth; did you mean --savepoint_path?",
        "--flink_job_server_jar: expected Beam's Flink runner as a jar, got none.jar",
    ):
        assert text in told


def test_a_cluster_that_does_not_answer_may_answer_at_the_next_start(options_of, capsys):
    (port,) = free_ports(1)
    assert score_batch.main(options_of(f"--flink_master=127.0.0.1:{port}")) == 1
    told = capsys.readouterr().err
    assert f"--flink_master: no JobManager answers at http://127.0.0.1:{port}" in told
