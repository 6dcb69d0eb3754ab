"""The base of all runners; files of single runners override the differences."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from apache_beam.runners.runner import PipelineResult, PipelineRunner, create_runner

from scoreline.pipelines.options.parser import suggest
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.runners.flink_options import FlinkOptions
from scoreline.pipelines.runners.workarounds import (
    keep_tracebacks_off_the_terminal,
    keep_values_out_of_the_log,
    parse_options_once,
    read_arguments_of_methods,
)
from scoreline.transforms.worker import sampling


class Placement(NamedTuple):
    """The distribution of a job over a cluster.

    Attributes:
      slots: number of parallel tasks.
      concurrent_calls: number of slots that share a worker process and its model.
      worker_processes: worker processes per machine.
    """

    slots: int
    concurrent_calls: int
    worker_processes: int


class Timers(NamedTuple):
    """The driver of a stream's readers, if a splittable DoFn does not work.

    Attributes:
      tick: an unbounded source of rare elements; the first one starts the readers.
      keys: one key per reader, which determines its worker.
    """

    tick: beam.PTransform
    keys: Sequence[str]


class AnyRunner:
    """A runner of Beam, by its name or the path of its class."""

    def __init__(
        self, name: str, argv: Sequence[str], *, streaming: bool, transactions: bool = False
    ) -> None:
        """Parse the flags of Beam.

        Args:
          name: the given name; "" if there is none.
          argv: the flags that the command does not declare.
          streaming: whether the job is a stream.
          transactions: whether each bundle is a transaction.
        """
        keep_values_out_of_the_log()
        keep_tracebacks_off_the_terminal()
        parse_options_once()
        read_arguments_of_methods()
        self._name = name
        self._flags = list(argv)
        self.options = PipelineOptions(self._flags)
        if streaming:
            self.options.view_as(StandardOptions).streaming = True
            setup = self.options.view_as(SetupOptions)
            setup.beam_plugins = [*(setup.beam_plugins or []), sampling.__name__]

    @property
    def shares_process(self) -> bool:
        """Whether the workers are threads of this process."""
        return self.options.view_as(PortableOptions).environment_type == "LOOPBACK"

    def find_problems(self, own_flags: Collection[str] = ()) -> list[str]:
        """Check that Beam has the runner. All flags are accepted: a job server may have more."""
        try:
            create_runner(self._name)
        except (ImportError, AttributeError, ValueError) as e:
            return [
                f"--runner: expected FnApiRunner, PrismRunner, flink, another runner of Beam or "
                f"the path of its class, got '{self._name}': {e}"
            ]
        return []

    def find_stream_problems(self, *, readers: int, until_end: bool) -> list[str]:
        """Return no problems: the limits of an unknown runner are unknown."""
        return []

    def refuse_second_job(self, topic: str, group: str) -> None:
        """Do nothing: the jobs of the runner are unknown."""

    def place(self, problems: Problems, max_tasks: int | None = None) -> Placement | None:
        """Return None: `--workers` sets it."""
        return None

    def locate(self, path: str) -> str:
        """Return the path unchanged."""
        return path

    def make_timers(self, readers: int) -> Timers | None:
        """Return None: readers are a splittable DoFn."""
        return None

    def make_pipeline(self, workers: int) -> beam.Pipeline:
        """Return an empty pipeline."""
        return beam.Pipeline(runner=self.make_beam_runner(workers), options=self.options)

    def make_beam_runner(self, workers: int) -> PipelineRunner:
        """Return Beam's own runner, with options for the number of workers."""
        return create_runner(self._name)

    def end_stream(self, last: beam.PCollection[None]) -> None:
        """Add nothing."""

    @contextmanager
    def stopping_in_order(self, stop: threading.Event) -> Iterator[None]:
        """Let the first SIGTERM or SIGINT set the event if the workers are in this process."""
        if not self.shares_process:
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            stop.set()

        before = {name: signal.signal(name, end) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def run(
        self, pipeline: beam.Pipeline, name: str, say: Callable[[str], None], *, endless: bool
    ) -> PipelineResult:
        """Run a pipeline to its end."""
        result = pipeline.run()
        result.wait_until_finish()
        return result


def find_unknown_flags(flags: Sequence[str], own_flags: Collection[str]) -> list[str]:
    """Return a problem per flag that Beam does not declare, with a suggestion."""
    parser = _BeamArgumentParser(allow_abbrev=False, add_help=False, conflict_handler="resolve")
    for family in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(family):
            family._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(flags))
    known = {option for action in parser._actions for option in action.option_strings}
    known.update(own_flags)
    # Without their values, which may be secret.
    names = [flag.partition("=")[0] for flag in unknown if flag.startswith("-")]
    return [f"unknown option {name}{suggest(name, known)}" for name in names]


def find_flink_flags(flags: Sequence[str]) -> list[str]:
    """Return a problem per flag that only Flink honours."""
    parser = _BeamArgumentParser(allow_abbrev=False, add_help=False)
    for family in (FlinkRunnerOptions, FlinkOptions):
        family._add_argparse_args(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    names = (flag.partition("=")[0] for flag in flags)
    return [f"{name} needs --runner=flink; leave it out" for name in names if name in known]
