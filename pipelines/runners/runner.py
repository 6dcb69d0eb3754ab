"""Runners: what a command needs of the place where its job runs, and the choice of one by name.

Each runner is a strategy in a file of its own; no other module compares a runner's name. A new one
is a file with a class that overrides what it does differently from `AnyRunner`, and a line in
`_STRATEGIES`.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from scoreline.pipelines.runners.any_runner import AnyRunner, Placement, Timers
from scoreline.pipelines.runners.flink import Flink
from scoreline.pipelines.runners.local import Local
from scoreline.pipelines.runners.prism import Prism


class Runner(Protocol):
    """Where the job of one command line runs."""

    @property
    def options(self) -> PipelineOptions:
        """Beam's options of the command line, with the runner's defaults for this kind of job."""

    @property
    def shares_process(self) -> bool:
        """Whether the workers are threads of this process."""

    def find_problems(self, own_flags: Collection[str] = ()) -> list[str]:
        """Return a sentence for each thing that is wrong with the runner's name and flags.

        Args:
          own_flags: those of the command, one of which may be meant by an unknown one.
        """

    def find_stream_problems(self, *, readers: str, until_end: bool) -> list[str]:
        """Return a sentence for each thing that keeps a stream from running here.

        Args:
          readers: how many consumers are asked for, as given.
          until_end: whether the stream is to end with its topic.
        """

    def refuse_second_job(self, topic: str, group: str) -> None:
        """Check that no job of the same consumer group runs: both would score all records.

        Raises:
          BadOptions: one does.
        """

    def place(self, problems: list[str], max_tasks: int | None = None) -> Placement | None:
        """Return how the job is spread over a cluster; None if `--workers` decides it.

        Args:
          problems: gets a sentence for each thing that is wrong.
          max_tasks: how many tasks the job has work for; None if there is no limit.
        """

    def locate(self, path: str) -> str:
        """Return a path or URI of this process as the workers see it."""

    def make_timers(self, readers: int) -> Timers | None:
        """Return what drives the readers of a stream; None if they are a splittable step."""

    def make_pipeline(self, workers: int) -> beam.Pipeline:
        """Return an empty pipeline for so many workers."""

    def end_stream(self, last: beam.PCollection[None]) -> None:
        """Add what the runner needs behind the last step of a stream."""

    def stopping_in_order(self, stop: threading.Event) -> AbstractContextManager[None]:
        """Return a context in which the first SIGTERM or SIGINT ends a stream in order.

        Args:
          stop: is set by it where readers are in this process. A second signal ends the process.
        """

    def run(
        self, pipeline: beam.Pipeline, name: str, say: Callable[[str], None], *, endless: bool
    ) -> PipelineResult:
        """Run a pipeline to its end.

        Args:
          pipeline: to run.
          name: of the job; no other has it.
          say: gets a sentence about what happens meanwhile.
          endless: whether it is a stream, which a cluster ends in order when it is told to.

        Raises:
          Exception: whatever the runner raises when the job as a whole fails.
        """


# By the name in lower case, without "runner" at its end.
_STRATEGIES: Mapping[str, type[AnyRunner]] = {
    "fnapi": Local,
    # Beam's own DirectRunner would first try to fetch a Prism binary from the web.
    "direct": Local,
    "prism": Prism,
    "flink": Flink,
}


def choose_runner(
    argv: Sequence[str], *, streaming: bool = False, transactions: bool = False
) -> Runner:
    """Return the runner that a command line names; it has the command line's Beam options.

    A name is accepted in any case, with or without "Runner" and the path of its module.

    Args:
      argv: the flags that are not the command's own.
      streaming: whether the job is a stream.
      transactions: whether each bundle of it is a transaction.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner", default="")
    name = parser.parse_known_args(list(argv))[0].runner
    short = name.rpartition(".")[2].lower().removesuffix("runner")
    strategy = _STRATEGIES.get(short, AnyRunner) if name else Local
    return strategy(name, argv, streaming=streaming, transactions=transactions)
