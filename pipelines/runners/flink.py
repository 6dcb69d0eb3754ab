"""Flink: submits the job to a cluster, and watches it until it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import apache_beam as beam
from apache_beam.io.flink.flink_streaming_impulse_source import FlinkStreamingImpulseSource
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PortableOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner

from scoreline.pipelines.options.problems import BadOptions, Passing, Problems
from scoreline.pipelines.runners import flink_options, flink_placement
from scoreline.pipelines.runners.any_runner import (
    AnyRunner,
    Placement,
    Timers,
    find_unknown_flags,
)
from scoreline.pipelines.runners.flink_job import run_on_flink
from scoreline.pipelines.runners.flink_keys import spread_keys
from scoreline.pipelines.runners.flink_options import FlinkOptions
from scoreline.pipelines.runners.flink_rest import ENDED, FlinkRest
from scoreline.pipelines.runners.flink_savepoint import SavepointFlinkRunner
from scoreline.pipelines.runners.job_name import stream_prefix
from scoreline.pipelines.runners.workarounds import hand_over_timers_at_once

# A tick starts the readers; after that, timers drive them.
_TICK_MS = 10_000
# States of a job that is about to end.
_ENDING = ("CANCELLING", "FAILING")


class Flink(AnyRunner):
    """Runs a job on a Flink cluster, which may restart it after a failure."""

    def __init__(
        self, name: str, argv: Sequence[str], *, streaming: bool, transactions: bool = False
    ) -> None:
        """Complete the command line with the defaults of Flink."""
        kind = flink_options.BATCH_DEFAULTS
        if streaming:
            kind = flink_options.stream_defaults(transactions=transactions)
        super().__init__(name, flink_options.complete_arguments(argv, kind), streaming=streaming)
        if streaming:
            hand_over_timers_at_once(self.options)

    def find_problems(self, own_flags: Collection[str] = ()) -> list[str]:
        """Check the flags, as far as can be without the cluster."""
        unknown = find_unknown_flags(self._flags, own_flags)
        return [*unknown, *flink_options.find_problems(self.options)]

    def find_stream_problems(self, *, readers: int, until_end: bool) -> list[str]:
        """Check that a restart by Flink loses or duplicates no record."""
        return list(flink_options.find_stream_problems(self.options, until_end=until_end))

    def refuse_second_job(self, topic: str, group: str) -> None:
        """Check that no job of the same consumer group runs on the cluster.

        Raises:
          BadOptions: such a job runs. If it is about to end, the next attempt may succeed.
        """
        prefix = stream_prefix(self.options, topic, group)
        for name, state in self._rest().jobs():
            if name.startswith(prefix) and state not in ENDED:
                problem = (
                    f"--group: expected no job of group {group} at {self._master}, got "
                    f"'{name}', which is {state}. Stop it on Flink's web page or with its REST "
                    "interface, or use another group"
                )
                raise BadOptions([Passing(problem) if state in _ENDING else problem])

    def place(self, problems: Problems, max_tasks: int | None = None) -> Placement:
        """Read the size of the cluster, and set the options that depend on it."""
        return flink_placement.place(self.options, problems, max_tasks)

    def locate(self, path: str) -> str:
        """Return an absolute path, because workers run in other folders; a URI is unchanged."""
        return path if "://" in path or not path else os.path.abspath(path)

    def make_timers(self, readers: int) -> Timers:
        """Return ticks and keys, because a splittable DoFn leaks state (decision 0014)."""
        groups = int(self.options.view_as(FlinkRunnerOptions).max_parallelism)
        tick = FlinkStreamingImpulseSource().set_interval_ms(_TICK_MS)
        return Timers(tick, spread_keys(readers, groups))

    def make_beam_runner(self, workers: int) -> PipelineRunner:
        """Return Beam's FlinkRunner, or our subclass if it is needed."""
        return SavepointFlinkRunner()

    @contextmanager
    def stopping_in_order(self, stop: threading.Event) -> Iterator[None]:
        """Do nothing: `run` ends a stream with a savepoint."""
        yield

    def run(
        self, pipeline: beam.Pipeline, name: str, say: Callable[[str], None], *, endless: bool
    ) -> PipelineResult:
        """Submit a pipeline, and watch its job until it ends; never leave a job behind."""
        portable = self.options.view_as(PortableOptions)
        return run_on_flink(
            pipeline,
            self._rest(),
            name,
            timeout_seconds=float(self.options.view_as(FlinkOptions).submit_timeout_s),
            environment=f"{portable.environment_type} {portable.environment_config or ''}".strip(),
            say=say,
            endless=endless,
        )

    @property
    def _master(self) -> str:
        return str(self.options.view_as(FlinkRunnerOptions).flink_master)

    def _rest(self) -> FlinkRest:
        return FlinkRest(self._master)
