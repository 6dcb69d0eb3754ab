"""The options of a job on Flink: ours, those of Beam's Java runner, and their defaults.

`--runner=flink --flink_master=HOST:PORT` is enough if the SDK worker pool listens at
localhost:50000 beside each TaskManager: the job is submitted as one jar over Flink's REST
interface, so that no job server has to run. See docs/flink.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
)

from scoreline.pipelines.options.java_flags import JAVA_OPTIONS
from scoreline.pipelines.options.runner import add_flink_flags
from scoreline.pipelines.runners.cache import cache_folder
from scoreline.pipelines.runners.versions import BEAM_JAVA_VERSION, FLINK_MINOR

# The address of Beam's own containers, beside their TaskManager.
_POOL = "localhost:50000"
# The job survives a lost TaskManager; a permanent failure ends it. With checkpoints, Beam would
# keep sources alive after their end, and the job would never finish.
BATCH_DEFAULTS = {
    "--number_of_execution_retries": "3",
    "--execution_retry_delay": "2000",
    "--shutdown_sources_after_idle_ms": "0",
}
# The cluster decides on restarts: by default without a limit, 1 s to 60 s after a failure.
_STREAM_DEFAULTS = {
    "--checkpointing_interval": "10000",
    "--externalized_checkpoints_enabled": "true",
    "--retain_externalized_checkpoints_on_cancellation": "true",
    "--finish_bundle_before_checkpointing": "true",
}
# Minimum age of a bundle. Flink checks twice in that time, idle or not: with 20 ms this took 1 % of
# a core. A reader's bundle lasts half a second anyway; a transaction waits for the bundle's end.
_BUNDLE_MS, _TRANSACTION_MS = 200, 10


class FlinkOptions(PipelineOptions):
    """Our flags that only Flink needs, and those of Beam's Java runner."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add_flink_flags(parser)
        for option in JAVA_OPTIONS:
            parser.add_argument(f"--{option}", nargs="?", const=True)


def is_yes(value: object) -> bool:
    """Return whether an option of Beam's Java runner is on: it is text, or True without a value."""
    return str(value).lower() not in ("false", "0", "none", "")


def job_server_jar() -> Path:
    """Return the path at which `make flink-jar` stores Beam's Flink runner."""
    return cache_folder() / f"flink-runner-{FLINK_MINOR}-{BEAM_JAVA_VERSION}.jar"


def complete_arguments(
    argv: Sequence[str], job_defaults: Mapping[str, str] = BATCH_DEFAULTS
) -> list[str]:
    """Return a command line with Flink's defaults in front, so that given flags override them.

    Args:
      argv: the command line, whose `--runner` is Flink.
      job_defaults: flags and values of this kind of job.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner")
    rest = parser.parse_known_args(list(argv))[1]
    given = {argument.partition("=")[0] for argument in rest if argument.startswith("--")}
    defaults = {
        "--runner": "FlinkRunner",
        "--flink_version": FLINK_MINOR,
        **job_defaults,
    }
    if "--environment_type" not in given:
        defaults["--environment_type"] = "EXTERNAL"
        defaults["--environment_config"] = _POOL
    # The job uses Flink's streaming interface, although its input ends: docs/decisions/0009.
    switches = [] if "--execution_mode_for_batch" in given else ["--streaming"]
    if "--checkpointing_interval" in given:
        # Otherwise bundles end only with the job, and a batch job has no output until then.
        defaults.setdefault("--finish_bundle_before_checkpointing", "true")
    if "--job_endpoint" not in given:
        switches.append("--flink_submit_uber_jar")
        if job_server_jar().exists():
            defaults["--flink_job_server_jar"] = str(job_server_jar())
    added = [f"{flag}={value}" for flag, value in defaults.items() if flag not in given]
    return [*added, *switches, *rest]


def stream_defaults(*, transactions: bool) -> dict[str, str]:
    """Return the default flags and values of a stream on Flink."""
    bundle_ms = _TRANSACTION_MS if transactions else _BUNDLE_MS
    return {**_STREAM_DEFAULTS, "--max_bundle_time_mills": str(bundle_ms)}


def find_problems(options: PipelineOptions) -> Iterator[str]:
    """Yield a sentence for each option that is wrong whatever the cluster says."""
    flink = options.view_as(FlinkRunnerOptions)
    if flink.flink_master.strip().startswith("["):  # Beam's ways to start a cluster of its own
        yield (
            "--flink_master is required with --runner=flink: HOST:PORT of the JobManager's REST "
            "interface. `make flink-up` starts a local cluster"
        )
    jar = flink.flink_job_server_jar
    is_jar = jar and ("://" in jar or os.path.isfile(jar))
    if not is_jar and not options.view_as(PortableOptions).job_endpoint:
        got = jar or f"none, also not at {job_server_jar()}"
        yield (
            f"--flink_job_server_jar: expected Beam's Flink runner as a jar, got {got}. "
            "Build it with `make flink-jar`, or use "
            f"the official beam-runners-flink-{FLINK_MINOR}-job-server jar"
        )
    timeout = options.view_as(FlinkOptions).submit_timeout_s
    if not timeout.isdigit() or int(timeout) < 1:
        yield f"--submit_timeout_s: expected a whole number of at least 1, got '{timeout}'"


def find_stream_problems(options: PipelineOptions, *, until_end: bool) -> Iterator[str]:
    """Yield a sentence for each option that a stream on Flink does not allow."""
    flink = options.view_as(FlinkOptions)
    if not is_yes(flink.finish_bundle_before_checkpointing):
        yield (
            "--finish_bundle_before_checkpointing: expected true: a checkpoint within a bundle "
            "would cover records that are not sent yet"
        )
    if str(flink.checkpointing_interval).startswith("-"):
        yield (
            "--checkpointing_interval: expected milliseconds, got "
            f"{flink.checkpointing_interval}. Without checkpoints Flink never restarts a stream"
        )
    if str(options.view_as(PortableOptions).environment_cache_millis) != "0":
        yield (
            "--environment_cache_millis: expected 0: a worker that outlives a restart may be ahead "
            "of the positions that Flink restores"
        )
    if until_end:
        yield (
            "--until_end: a stream on Flink has no end. Leave it out, or run the backfill on "
            "the local runner or Prism"
        )
