"""All patches of Beam and workarounds for its faults.

Each docstring has the fault and its place in Beam, the upstream issue, and the affected versions. A
test of the same name proves that Beam still has the fault, and fails after a fix. The tests are in
tests/pipelines/test_workarounds.py, and in tests/integration/test_workarounds.py if they need an
engine or its jar. Some workarounds are in other files, because they are large, or because their
users must not import this room:

- transforms/worker/lean_beam.py `import_beam`: Beam imports clients of Google Cloud that no job
  needs.
- transforms/worker/sampling.py `sample_often`: the end of a bundle waits for the state sampler.
- transforms/kafka/poll.py `PollKafka`: a splittable DoFn leaks state on Flink.
- deploy/local/worker_pool.py `WorkerPool`: Beam's pool confuses the workers of two TaskManagers.
- pipelines/runners/flink_savepoint.py `SavepointFlinkRunner`: Beam's runner for Flink ignores
  savepoints, and its import takes long.
- pipelines/runners/flink_job.py `run_on_flink`: Beam waits for ever, and cannot cancel.
"""

from __future__ import annotations

import argparse
import copy
import functools
import logging
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    CrossLanguageOptions,
    DebugOptions,
    PipelineOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms import core, window
from apache_beam.transforms.environments import Environment, SubprocessSDKEnvironment

from scoreline.transforms.worker import main as worker_main

_UNKNOWN_FLAGS = "Discarding unparseable args: %s"  # Beam's message
_HAND_OVER = "data_buffer_size_limit"
# Attributes of a function that change its signature (`inspect.signature`).
_OTHER_SIGNATURE = {"__signature__", "__wrapped__", "_partialmethod", "__partialmethod__"}


def add_up_counters_at_once() -> None:
    """Make the local runner sum the counters of a bundle when the bundle ends.

    Beam keeps the counters of every bundle until the job ends, in a chain of generators
    (`FnApiRunner.run_stages` in fn_runner.py). An unbounded stream has bundles without end. Its
    memory grows by more than 1 GB per hour, and it finally raises a RecursionError.

    Issue: not reported.
    Seen in: Python SDK 2.77.
    """
    from apache_beam.metrics.monitoring_infos import consolidate, to_key
    from apache_beam.runners.portability.fn_api_runner import fn_runner

    def consolidate_now(metrics: Any, key: Any = to_key) -> Any:
        return list(consolidate(metrics, key))

    fn_runner.consolidate_monitoring_infos = consolidate_now


@functools.cache  # once per process
def parse_options_once() -> None:
    """Make Beam parse a command line once for each of its classes of options.

    Each `PipelineOptions.view_as` (pipeline_options.py) builds a parser of the class, and parses
    the flags again. A job of 1,000 rows does so 176 times: a tenth of its CPU time. Classes of
    users are left alone, and the one that reads the environment: the same flags of all others
    always have the same values.

    Issue: not reported.
    Seen in: Python SDK 2.77.
    """
    parse = PipelineOptions.view_as
    parsed: dict[tuple[type, tuple[str, ...]], argparse.Namespace] = {}

    @functools.wraps(parse)
    def view_as(self: PipelineOptions, cls: type[PipelineOptions]) -> PipelineOptions:
        flags, is_beams = self._flags, cls.__module__ == PipelineOptions.__module__
        if flags is None or not is_beams or cls is CrossLanguageOptions:
            return parse(self, cls)
        key = (cls, tuple(flags))
        if key not in parsed:
            parsed[key] = cls(flags)._visible_options
        for name, value in vars(parsed[key]).items():
            if name not in self._all_options:  # a copy, because lists are changed in place
                self._all_options[name] = copy.deepcopy(value)
        view = object.__new__(cls)
        # Of the last, Beam uses only the names.
        vars(view).update(
            _flags=flags, _all_options=self._all_options, _visible_options=parsed[key]
        )
        return view

    PipelineOptions.view_as = view_as  # type: ignore[assignment, method-assign]


@functools.cache  # once per process
def read_arguments_of_methods() -> None:
    """Make Beam read the arguments of a method from its code, not by `inspect.signature`.

    Beam looks at every method of every DoFn, several times for each step, in search of states and
    timers (`get_dofn_specs` in userstate.py, `get_function_args_defaults` in core.py). A job of
    1,000 rows does so 3,800 times: a tenth of its CPU time. Whatever is not a plain method is left
    to Beam.

    Issue: not reported.
    Seen in: Python SDK 2.77.
    """
    inspect_signature = core.get_function_args_defaults

    @functools.wraps(inspect_signature)
    def read(method: Any) -> tuple[list[str], list[Any]]:
        function = getattr(method, "__func__", None)
        if (
            type(method) is not MethodType
            or type(function) is not FunctionType
            or not function.__code__.co_argcount
            or _OTHER_SIGNATURE & vars(function).keys()
        ):
            return inspect_signature(method)
        names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
        defaults = (function.__defaults__ or ())[-len(names) :] if names else ()
        return list(names), list(defaults)

    core.get_function_args_defaults = read  # type: ignore[assignment]


def let_prism_wait(last: beam.PCollection[None]) -> None:
    """Add a step after the last step of a stream, which has no output.

    If the stage of a bundle has no output, Prism runs a busy loop and uses a core: `stage.Execute`
    (stage.go) selects on `DataWait`, a channel that `B.Init` (bundle.go) has closed. A stream is
    always in such a bundle. On Prism a GroupByKey is a separate stage; a Reshuffle is not.

    Issue: not reported.
    Seen in: Prism 2.77.
    """
    _ = (
        last
        | "WindowNothing" >> beam.WindowInto(window.FixedWindows(60))
        | "KeyNothing" >> beam.WithKeys(0)
        | "GroupNothing" >> beam.GroupByKey()
    )


def hand_over_timers_at_once(options: PipelineOptions) -> None:
    """Make Flink pass each timer to its worker at once, unless the buffer's size is set.

    Beam's Java runner buffers data for a worker, including timers, until the bundle ends or the
    buffer has 1 MB (`BeamFnDataOutboundAggregator.java`). A timer-driven reader would be idle for
    the first part of each bundle.

    Issue: not reported.
    Seen in: Java SDK 2.70.
    """
    debug = options.view_as(DebugOptions)
    if debug.lookup_experiment(_HAND_OVER) is None:
        debug.add_experiment(f"{_HAND_OVER}=1")


def leave_packages_out_of_the_log(options: PipelineOptions) -> None:
    """Prevent Beam from listing the installed packages for the log of the workers.

    For this list, Beam runs `pip freeze` at each submission (`Stager` in stager.py). Environments
    of uv have no pip.

    Issue: https://github.com/apache/beam/issues/28563 asked for the list.
    Seen in: Python SDK 2.77.
    """
    options.view_as(DebugOptions).add_experiment("disable_logging_submission_environment")


def keep_values_out_of_the_log() -> None:
    """Remove values from Beam's warning about unknown flags, because they may be secret.

    Beam logs the flags as they were given (`PipelineOptions.get_all_options` in
    pipeline_options.py).

    Issue: not reported; https://github.com/apache/beam/issues/28402 asked for the warning.
    Seen in: Python SDK 2.77.
    """
    logging.getLogger("apache_beam.options.pipeline_options").addFilter(_name_flags_only)


def _name_flags_only(record: logging.LogRecord) -> bool:
    """Filter of a logger; lets every record through."""
    if record.msg == _UNKNOWN_FLAGS and isinstance(record.args, tuple):
        flags = [str(flag) for given in record.args if isinstance(given, list) for flag in given]
        record.args = ([f.partition("=")[0] for f in flags if f.startswith("-")],)
    return True


def keep_tracebacks_off_the_terminal() -> None:
    """Make a worker in this process not print the traceback of a bundle that failed.

    Beam prints it to stderr, logs it, and hands it over with the failure (`SdkHarness._execute` in
    sdk_worker.py). We report the failure in one sentence, and keep the traceback in a log.

    Issue: not reported.
    Seen in: Python SDK 2.77.
    """
    from apache_beam.runners.worker import sdk_worker

    # A name of the module hides the function of the same name.
    vars(sdk_worker)["print"] = lambda *_, **__: None


@contextmanager
def removing_jar_copies() -> Iterator[None]:
    """Create a folder for Beam's temporary files, and remove it at the end.

    Beam copies the jar of its Flink runner, 160 MB, into the folder of temporary files. If the
    submission fails, the copy stays, and Beam never removes its folder
    (`FlinkUberJarJobServer.__init__` and `FlinkBeamJob.run` in flink_uber_jar_job_server.py).

    Issue: not reported.
    Seen in: Python SDK 2.77.
    """
    usual = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="scoreline-flink-", ignore_cleanup_errors=True) as own:
        tempfile.tempdir = own
        try:
            yield
        finally:
            tempfile.tempdir = usual


class LeanWorkersRunner(FnApiRunner):
    """Beam's local runner, but its worker processes import a lean Beam, as ours.

    With `--direct_running_mode=multi_processing` Beam starts `sdk_worker_main`, and has no option
    for another command (`FnApiRunner.run_pipeline` in fn_runner.py). A worker would import the
    clients of Google Cloud: 0.9 CPU s and 85 MB (transforms/worker/lean_beam.py).

    Issue: not reported.
    Seen in: Python SDK 2.77.
    """

    _environment: Environment

    @property
    def _default_environment(self) -> Environment:
        return self._environment

    @_default_environment.setter
    def _default_environment(self, environment: Environment) -> None:
        if isinstance(environment, SubprocessSDKEnvironment):
            environment = SubprocessSDKEnvironment.from_command_string(
                f"{shlex.quote(sys.executable)} -m {worker_main.__name__}"
            )
        self._environment = environment
