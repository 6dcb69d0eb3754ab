"""The size of a Flink cluster, and the distribution of a job over it."""

from __future__ import annotations

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
)

from scoreline.pipelines.options.problems import Passing, Problems
from scoreline.pipelines.runners.any_runner import Placement
from scoreline.pipelines.runners.flink_options import FlinkOptions
from scoreline.pipelines.runners.flink_rest import FlinkRest, Slots
from scoreline.pipelines.runners.versions import FLINK_MINOR
from scoreline.pipelines.runners.workarounds import leave_packages_out_of_the_log

# The largest parallelism that a keyed step can ever have; Flink's own limit is 32,768.
_MIN_MAX_PARALLELISM = 128
_GROWTH = 8


def place(options: PipelineOptions, problems: Problems, max_tasks: int | None = None) -> Placement:
    """Read the size of the cluster, and set the options that depend on it.

    Args:
      options: those of the command line; this sets parallelism, its limit and worker processes.
      problems: the list to which problems are added.
      max_tasks: maximum number of tasks that the job has work for; None for no limit.
    """
    flink = options.view_as(FlinkRunnerOptions)
    portable = options.view_as(PortableOptions)
    given = options.view_as(FlinkOptions)
    leave_packages_out_of_the_log(options)
    slots = _ask(flink.flink_master, problems)
    if slots is None:
        return Placement(1, 1, 1)
    useful = min(slots.total, max_tasks or slots.total)
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


def _ask(master: str, problems: Problems) -> Slots | None:
    rest = FlinkRest(master)
    try:
        version, slots = rest.version(), rest.slots()
    except (OSError, LookupError, ValueError, KeyError) as e:
        problems.add(Passing(f"--flink_master: no JobManager answers at {rest.url}: {e}"))
        return None
    if not version.startswith(f"{FLINK_MINOR}."):
        problems.add(
            f"--flink_master: expected Flink {FLINK_MINOR}, got {version} at {rest.url}. "
            "Beam's runner is built for one minor version"
        )
    if not slots.total:
        problems.add(
            Passing(
                f"--flink_master: {rest.url} has {slots.task_managers} TaskManagers and no slots. "
                "Start a TaskManager, and check that it reaches the JobManager"
            )
        )
        return None
    return slots
