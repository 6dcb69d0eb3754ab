"""Options of Flink from a command line, and causes from a stack trace; needs no cluster."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)

from deploy.local.processes import free_ports
from scoreline.pipelines.runners.any_runner import Placement
from scoreline.pipelines.runners.flink_job import Runs, _why_restarted, root_cause
from scoreline.pipelines.runners.flink_options import complete_arguments, is_yes, job_server_jar
from scoreline.pipelines.runners.flink_placement import spread
from scoreline.pipelines.runners.flink_rest import FlinkRest, Slots
from scoreline.pipelines.runners.job_name import name_batch
from scoreline.pipelines.runners.runner import choose_runner

SDK_TRACE = """org.apache.flink.runtime.JobException: Recovery is suppressed by FixedDelayRestart
\tat org.apache.flink.runtime.executiongraph.ExecutionFailureHandler.handle(X.java:1)
Caused by: java.util.concurrent.ExecutionException: RuntimeException: Error received from \
SDK harness for instruction 5: Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1498, in process
    return self.do_fn_invoker.invoke_process(windowed_value)
scoreline.transforms.score.ModelFails: The model fails on every row of two batches: no kernel

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "apache_beam/runners/worker/sdk_worker.py", line 313, in _execute
scoreline.transforms.score.ModelFails: The model fails on every row of two batches: no kernel \
[while running \
'Score/Predict']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient.onNext(F.java:177)
"""
JAVA_TRACE = """org.apache.flink.runtime.JobException: Recovery is suppressed
\tat org.apache.flink.Some.method(Some.java:1)
Caused by: java.util.concurrent.CompletionException: x
\t... 3 more
Caused by: org.apache.flink.NoResourceAvailableException: Could not acquire the minimum required \
resources.
"""


@pytest.mark.parametrize(
    ("trace", "cause"),
    [
        (
            SDK_TRACE,
            "scoreline.transforms.score.ModelFails: The model fails on every row of two batches: "
            "no kernel [while running 'Score/Predict']",
        ),
        (
            JAVA_TRACE,
            "org.apache.flink.NoResourceAvailableException: Could not acquire the minimum required "
            "resources.",
        ),
        ("java.lang.Exception: only this\n\tat a.b(c.java:1)", "java.lang.Exception: only this"),
        ("", "no reason given"),
    ],
)
def test_root_cause_is_pythons_error_or_the_last_cause(trace, cause):
    assert root_cause(trace) == cause


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([("CREATED", 0), ("RUNNING", 5), ("RUNNING", 5)], 0),
        ([("RUNNING", 5), ("RESTARTING", 5), ("RESTARTING", 5), ("RUNNING", 9)], 1),
        ([("RUNNING", 5), ("RUNNING", 9)], 1),
        ([("RUNNING", 5), ("CREATED", 0), ("INITIALIZING", 0), ("RUNNING", 9)], 1),
        ([("RUNNING", 5), ("RESTARTING", 5), ("CREATED", 0), ("RUNNING", 9), ("RUNNING", 12)], 2),
        ([("CREATED", 0), ("RESTARTING", 5), ("RUNNING", 9)], 1),
    ],
)
def test_a_restart_is_reported_once_even_if_it_is_short(looks, told):
    runs = Runs()
    assert sum(runs.another_ended(state, running_ms) for state, running_ms in looks) == told


@pytest.mark.parametrize("runner", ["flink", "Flink", "FlinkRunner", "flinkrunner"])
@pytest.mark.parametrize("form", ["--runner={}", "--runner {}"])
def test_flink_in_any_case_gets_defaults_that_what_is_given_overrides(runner, form):
    argv = [*form.format(runner).split(), "--flink_master=h:1", "--execution_retry_delay=5"]
    argv.append("--flink_job_server_jar=http://h/runner.jar")
    chosen = choose_runner(argv)
    options = chosen.options
    assert options.view_as(StandardOptions).runner == "FlinkRunner"
    assert options.view_as(FlinkRunnerOptions).flink_submit_uber_jar
    assert options.view_as(FlinkRunnerOptions).flink_version == "1.19"
    assert options.view_as(PortableOptions).environment_type == "EXTERNAL"
    assert options.view_as(PortableOptions).environment_config == "localhost:50000"
    known = options.get_all_options()
    assert (known["number_of_execution_retries"], known["execution_retry_delay"]) == ("3", "5")
    assert not chosen.find_problems()


def test_job_server_and_other_environments_are_left_as_they_are():
    argv = [
        *("--runner=flink", "--job_endpoint=h:8099", "--environment_type=DOCKER"),
        "--execution_mode_for_batch=BATCH_FORCED",
    ]
    options = PipelineOptions(complete_arguments(argv))
    assert not options.view_as(FlinkRunnerOptions).flink_submit_uber_jar
    assert options.view_as(FlinkRunnerOptions).flink_job_server_jar is None
    assert options.view_as(PortableOptions).environment_config is None
    assert not options.view_as(StandardOptions).streaming  # batch jobs have an execution mode


def test_bundles_end_before_checkpoints_by_default():
    ended = "--finish_bundle_before_checkpointing"
    checkpoints = ["--runner=flink", "--checkpointing_interval=1000"]
    assert f"{ended}=true" in complete_arguments(checkpoints)
    own = complete_arguments([*checkpoints, f"{ended}=false"])
    assert [flag for flag in own if flag.startswith(ended)] == [f"{ended}=false"]
    assert not any(flag.startswith(ended) for flag in complete_arguments(["--runner=flink"]))


def test_other_runners_get_nothing():
    options = choose_runner(["--runner=PrismRunner", "--max_bundle_size=5"]).options
    given = options.get_all_options(drop_default=True)
    assert given == {"runner": "PrismRunner", "max_bundle_size": "5"}


def test_the_cached_jar_is_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("CACHE", raising=False)  # set by make
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jar = job_server_jar()
    assert not any("jar=" in flag for flag in complete_arguments(["--runner=flink"]))
    jar.parent.mkdir()
    jar.touch()
    assert f"--flink_job_server_jar={jar}" in complete_arguments(["--runner=flink"])
    own = complete_arguments(["--runner=flink", "--flink_job_server_jar=own.jar"])
    assert [flag for flag in own if "jar=" in flag] == ["--flink_job_server_jar=own.jar"]


@pytest.mark.parametrize(
    ("slots", "parallelism", "machine", "process"),
    [
        (Slots(2, 8, 8), 8, Placement(8, 4, 1), Placement(8, 1, 4)),
        (Slots(3, 4, 0), 2, Placement(2, 2, 1), Placement(2, 1, 2)),
        (Slots(1, 2, 2), 16, Placement(2, 2, 1), Placement(2, 1, 2)),
    ],
)
def test_slots_share_a_model_or_have_one_each(slots, parallelism, machine, process):
    assert spread(slots, parallelism, "machine") == machine
    assert spread(slots, parallelism, "process") == process


def test_a_job_name_has_partitions_model_and_run():
    digest = "sha256:" + "ab" * 32
    days = ["date=2024-01-01", "date=2024-01-02", "date=2024-01-31"]
    options = PipelineOptions([])
    name = "scoreline date=2024-01-01..2024-01-31 model abababababab 01234567"
    assert name_batch(options, days, digest, "0123456789") == name
    assert options.get_all_options()["job_name"] == name
    one = name_batch(PipelineOptions([]), days[:1], digest, "0123456789")
    assert one == "scoreline date=2024-01-01 model abababababab 01234567"
    given = PipelineOptions(["--job_name=nightly"])
    assert name_batch(given, days, digest, "0123456789") == "nightly 01234567"


def test_a_job_manager_that_does_not_say_why_a_job_restarts_ends_nothing():
    (port,) = free_ports(1)
    told = _why_restarted(FlinkRest(f"127.0.0.1:{port}"), "0" * 32)
    assert told.text == "its JobManager gave no reason: ConnectionError"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", True), (True, True), ("false", False), ("FALSE", False), ("0", False), (None, False)],
)
def test_options_of_beams_java_runner_are_text(value, expected):
    assert is_yes(value) == expected


def test_workers_run_in_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    locate = choose_runner(["--runner=flink"]).locate
    assert locate("scores") == str(tmp_path / "scores")
    assert locate("gs://lake/scores") == "gs://lake/scores"
    assert locate("") == ""
