"""The protocol of runners, and the choice of a runner by name.

Each runner is a strategy in its own file. No other module compares a runner's name. To add one,
write a file with a subclass of `AnyRunner` that overrides the differences, and add a line to
`_STRATEGIES`.
"""

from __future__ import annotations

import argparse
import importlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.runners.any_runner import AnyRunner, Placement, Timers


class Runner(Protocol):
    """The runner of one command line."""

    @property
    def options(self) -> PipelineOptions:
        """Beam's options of the command line, with the runner's defaults for this kind of job."""

    @property
    def shares_process(self) -> bool:
        """Whether the workers are threads of this process."""

    def find_problems(self, own_flags: Collection[str] = ()) -> list[str]:
        """Return the problems of the runner's name and flags.

        Args:
          own_flags: flags of the command, as suggestions for misspelled ones.
        """

    def find_stream_problems(self, *, readers: int, until_end: bool) -> list[str]:
        """Return the reasons why this runner cannot run a stream.

        Args:
          readers: requested number of consumers.
          until_end: whether the stream ends with its topic.
        """

    def refuse_second_job(self, topic: str, group: str) -> None:
        """Check that no other job of the consumer group runs: both would score all records.

        Raises:
          BadOptions: such a job runs.
        """

    def place(self, problems: Problems, max_tasks: int | None = None) -> Placement | None:
        """Return the distribution of the job over a cluster; None if `--workers` sets it.

        Args:
          problems: the list to which problems are added.
          max_tasks: maximum number of tasks that the job has work for; None for no limit.
        """

    def locate(self, path: str) -> str:
        """Return a path or URI of this process in the form for workers."""

    def make_timers(self, readers: int) -> Timers | None:
        """Return the driver of a stream's readers; None if they are a splittable DoFn."""

    def make_pipeline(self, workers: int) -> beam.Pipeline:
        """Return an empty pipeline for a number of workers."""

    def end_stream(self, last: beam.PCollection[None]) -> None:
        """Add the steps that the runner needs after the last step of a stream."""

    def stopping_in_order(self, stop: threading.Event) -> AbstractContextManager[None]:
        """Return a context in which the first SIGTERM or SIGINT stops a stream cleanly.

        Args:
          stop: the event to set if readers are in this process. A second signal ends the process.
        """

    def run(
        self, pipeline: beam.Pipeline, name: str, say: Callable[[str], None], *, endless: bool
    ) -> PipelineResult:
        """Run a pipeline to its end.

        Args:
          pipeline: the pipeline.
          name: unique name of the job.
          say: called with a sentence about events during the run.
          endless: whether the job is a stream, which a cluster stops cleanly on request.

        Raises:
          Exception: the runner's exception if the whole job fails.
        """


# By name in lower case, without the suffix "runner": module and class. Only the chosen one is
# imported.
_LOCAL = ("local", "Local")
_STRATEGIES: Mapping[str, tuple[str, str]] = {
    "fnapi": _LOCAL,
    # Beam's own DirectRunner would first try to download a Prism binary.
    "direct": _LOCAL,
    "prism": ("prism", "Prism"),
    "flink": ("flink", "Flink"),
}
_ANY = ("any_runner", "AnyRunner")


def choose_runner(
    argv: Sequence[str], *, streaming: bool = False, transactions: bool = False
) -> Runner:
    """Return the runner that a command line names; it has the command line's Beam options.

    A name is accepted in any case, with or without "Runner" and the path of its module.

    Args:
      argv: the flags that the command does not declare.
      streaming: whether the job is a stream.
      transactions: whether each bundle of it is a transaction.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner", default="")
    name = parser.parse_known_args(list(argv))[0].runner
    short = name.rpartition(".")[2].lower().removesuffix("runner")
    module, strategy_name = _STRATEGIES.get(short, _ANY) if name else _LOCAL
    room = importlib.import_module(f"scoreline.pipelines.runners.{module}")
    strategy: type[AnyRunner] = getattr(room, strategy_name)
    return strategy(name, argv, streaming=streaming, transactions=transactions)
