"""What running on a Flink cluster needs beside Beam's own options, and where its defaults are.

`--runner=flink --flink_master=HOST:PORT` is enough where the SDK worker pool listens at
localhost:50000 beside each TaskManager: the job is submitted as one jar over Flink's REST
interface, so that no job server has to be kept alive. docs/flink.md has the whole story.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from apache_beam.options.pipeline_options import (
    DebugOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
)

from scoreline.pipelines.options.problems import Passing
from scoreline.pipelines.options.runner import is_flink
from scoreline.pipelines.runners.cache import cache_folder
from scoreline.pipelines.runners.flink_rest import FlinkRest, Slots
from scoreline.pipelines.runners.versions import BEAM_JAVA_VERSION, FLINK_MINOR

SHARING = ("machine", "process")
# Where Beam's own containers listen, beside the TaskManager that uses them.
_POOL = "localhost:50000"
# A lost TaskManager is survived, and a failure that stays ends the job. Where there are
# checkpoints, Beam would keep sources that have ended alive for ever, and the job with them.
BATCH_DEFAULTS = {
    "--number_of_execution_retries": "3",
    "--execution_retry_delay": "2000",
    "--shutdown_sources_after_idle_ms": "0",
}
# The most that a keyed step can ever be scaled to; Flink's own limit is 32,768.
_MIN_MAX_PARALLELISM = 128
_GROWTH = 8
_DIGEST_SHOWN = 12
# Options of Beam's Java runner that its Python SDK does not know; they are passed on as they are.
_JAVA_OPTIONS = (
    "allow_non_restored_state",
    "auto_watermark_interval",
    "checkpoint_timeout_millis",
    "checkpointing_interval",
    "checkpointing_mode",
    "disable_metrics",
    "enable_stable_input_drain",
    "execution_mode_for_batch",
    "execution_retry_delay",
    "externalized_checkpoints_enabled",
    "fail_on_checkpointing_errors",
    "faster_copy",
    "finish_bundle_before_checkpointing",
    "flink_conf_dir",
    "force_slot_sharing_group",
    "force_unaligned_checkpoint_enabled",
    "latency_tracking_interval",
    "max_bundle_size",
    "max_bundle_time_mills",
    "min_pause_between_checkpoints",
    "num_concurrent_checkpoints",
    "number_of_execution_retries",
    "object_reuse",
    "operator_chaining",
    "report_checkpoint_duration",
    "retain_externalized_checkpoints_on_cancellation",
    "savepoint_path",
    "shutdown_sources_after_idle_ms",
    "state_backend",
    "state_backend_factory",
    "state_backend_storage_path",
    "unaligned_checkpoint_enabled",
)


class FlinkOptions(PipelineOptions):
    """The flags of our own that only Flink needs, and those of Beam's Java runner."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        cls.add_to(parser.add_argument_group())
        for option in _JAVA_OPTIONS:
            parser.add_argument(f"--{option}", nargs="?", const=True)

    @classmethod
    def add_to(cls, group: argparse._ArgumentGroup) -> None:
        """Declare the flags."""
        group.add_argument(
            "--model_sharing",
            choices=SHARING,
            default=SHARING[0],
            help="machine: one model for each TaskManager, shared by its slots (default). process: "
            "a worker process and a model for each slot",
        )
        group.add_argument(
            "--submit_timeout_s",
            metavar="S",
            default="300",
            help="give up, and cancel the job, when no step has given anything so many seconds "
            "after the submission (default: 300)",
        )


def is_yes(value: object) -> bool:
    """Return what an option of Beam's Java runner says: text, or True when it was given alone."""
    return str(value).lower() not in ("false", "0", "none", "")


def absolute_path(path: str) -> str:
    """Return a path as workers see it, who run in folders of their own; a URI as it is."""
    return path if "://" in path or not path else os.path.abspath(path)


class Placement(NamedTuple):
    """How a job is spread over a cluster.

    Attributes:
      slots: how many tasks run at once.
      concurrent_calls: how many slots share a worker process, and so a model.
      worker_processes: of each TaskManager.
    """

    slots: int
    concurrent_calls: int
    worker_processes: int


def job_server_jar() -> Path:
    """Return where `make flink-jar` puts Beam's Flink runner."""
    return cache_folder() / f"flink-runner-{FLINK_MINOR}-{BEAM_JAVA_VERSION}.jar"


def complete_arguments(
    argv: Sequence[str], job_defaults: Mapping[str, str] = BATCH_DEFAULTS
) -> list[str]:
    """Return a command line with Flink's defaults before what was given, which so wins.

    Without a runner that means Flink it is returned as it is.

    Args:
      argv: what was given.
      job_defaults: flags and values of this kind of job.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner", default="")
    found, rest = parser.parse_known_args(argv)
    if not is_flink(found.runner):
        return list(argv)
    given = {argument.partition("=")[0] for argument in rest if argument.startswith("--")}
    defaults = {
        "--runner": "FlinkRunner",
        "--flink_version": FLINK_MINOR,
        **job_defaults,
    }
    if "--environment_type" not in given:
        defaults["--environment_type"] = "EXTERNAL"
        defaults["--environment_config"] = _POOL
    # A job of Flink's streaming interface, though its input ends: docs/decisions/0009.
    switches = [] if "--execution_mode_for_batch" in given else ["--streaming"]
    if "--checkpointing_interval" in given:
        # Else bundles end with the job, and a batch job would give nothing until then.
        defaults.setdefault("--finish_bundle_before_checkpointing", "true")
    if "--job_endpoint" not in given:
        switches.append("--flink_submit_uber_jar")
        if job_server_jar().exists():
            defaults["--flink_job_server_jar"] = str(job_server_jar())
    added = [f"{flag}={value}" for flag, value in defaults.items() if flag not in given]
    return [*added, *switches, *rest]


def place(
    options: PipelineOptions, problems: list[str], most_tasks: int | None = None
) -> Placement:
    """Ask the cluster how large it is, and fill in the options that follow from it.

    Args:
      options: of the whole command line; parallelism, its limit and the worker processes are set.
      problems: gets a sentence for each thing that is wrong.
      most_tasks: how many tasks the job has work for at most; None when there is no limit.
    """
    flink = options.view_as(FlinkRunnerOptions)
    portable = options.view_as(PortableOptions)
    given = options.view_as(FlinkOptions)
    _check_jar(flink, portable, problems)
    if not given.submit_timeout_s.isdigit() or int(given.submit_timeout_s) < 1:
        problems.append(
            "--submit_timeout_s: expected a whole number of at least 1, got "
            f"'{given.submit_timeout_s}'"
        )
    # Beam lists the installed packages for the log by `pip freeze`, which uv's environments lack.
    options.view_as(DebugOptions).add_experiment("disable_logging_submission_environment")
    slots = _ask(flink.flink_master, problems)
    if slots is None:
        return Placement(1, 1, 1)
    useful = min(slots.total, most_tasks or slots.total)
    parallelism = flink.parallelism if flink.parallelism > 0 else useful
    flink.parallelism = parallelism
    if flink.max_parallelism < 1:
        flink.max_parallelism = max(_MIN_MAX_PARALLELISM, _GROWTH * parallelism)
    placement = spread(slots, parallelism, given.model_sharing)
    if given.model_sharing == "process":
        portable.sdk_worker_parallelism = placement.worker_processes
    return placement


def spread(slots: Slots, parallelism: int, sharing: str) -> Placement:
    """Return how the tasks of a job share worker processes, and so models and threads."""
    each = min(-(-slots.total // slots.task_managers), parallelism)
    at_once = min(slots.total, parallelism)
    return Placement(at_once, 1, each) if sharing == "process" else Placement(at_once, each, 1)


def _check_jar(flink: FlinkRunnerOptions, portable: PortableOptions, problems: list[str]) -> None:
    jar = flink.flink_job_server_jar
    if portable.job_endpoint or (jar and ("://" in jar or os.path.isfile(jar))):
        return
    got = jar or f"nothing, and there is none at {job_server_jar()}"
    problems.append(
        f"--flink_job_server_jar: expected Beam's Flink runner as a jar, got {got}. "
        "`make flink-jar` builds it, or give "
        f"the official beam-runners-flink-{FLINK_MINOR}-job-server jar"
    )


def _ask(master: str, problems: list[str]) -> Slots | None:
    if master.strip().startswith("["):
        problems.append(
            "--flink_master is required with --runner=flink: HOST:PORT of the JobManager's REST "
            "interface. `make flink-up` starts a cluster here"
        )
        return None
    rest = FlinkRest(master)
    try:
        version, slots = rest.version(), rest.slots()
    except (OSError, LookupError, ValueError, KeyError) as e:
        problems.append(Passing(f"--flink_master: no JobManager answers at {rest.url}: {e}"))
        return None
    if not version.startswith(f"{FLINK_MINOR}."):
        problems.append(
            f"--flink_master: expected Flink {FLINK_MINOR}, got {version} at {rest.url}. "
            "Beam's runner is built for one minor version"
        )
    if not slots.total:
        problems.append(
            Passing(
                f"--flink_master: {rest.url} has {slots.task_managers} TaskManagers and no slots. "
                "Start a TaskManager, and see that it finds the JobManager"
            )
        )
        return None
    return slots


def name_job(options: PipelineOptions, partitions: Sequence[str], digest: str, job_id: str) -> str:
    """Give the job a name that no other has, by which it is found again, and return it.

    It says what is scored with which model, or what `--job_name` says.
    """
    cloud = options.view_as(GoogleCloudOptions)
    first, last = partitions[0], partitions[-1]
    what = first if first == last else f"{first}..{last.rpartition('=')[2]}"
    title = cloud.job_name or f"scoreline {what} {name_model(digest)}"
    cloud.job_name = f"{title} {job_id[:8]}"
    return str(cloud.job_name)


def name_model(digest: str) -> str:
    """Return what a job's name says of a model."""
    return f"model {digest.partition(':')[2][:_DIGEST_SHOWN]}"
