"""Everything that patches Beam or steers it around a fault. Nothing else in the project does.

Each docstring says what Beam does and where, which upstream issue reports it, and in which versions
it was seen. A test of the same name shows that Beam still does it, and fails once it does not:
tests/pipelines/test_workarounds.py, and tests/integration/test_workarounds.py for what needs an
engine or its jar. Some live where their users can import them without this room, or are large
enough for a file:

- transforms/worker/sampling.py `sample_often`: the end of a bundle waits for the state sampler.
- transforms/kafka/poll.py `PollKafka`: a splittable reader leaves state behind on Flink.
- deploy/local/worker_pool.py `WorkerPool`: Beam's pool mixes up the workers of two TaskManagers.
- pipelines/runners/flink_job.py `run_on_flink`: Beam waits without an end, and cannot cancel.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DebugOptions, FlinkRunnerOptions, PipelineOptions
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.flink_uber_jar_job_server import (
    FlinkBeamJob,
    FlinkUberJarJobServer,
)
from apache_beam.transforms import window

from scoreline.pipelines.runners.flink_options import FlinkOptions, is_yes

_UNKNOWN_FLAGS = "Discarding unparseable args: %s"  # Beam's
_HAND_OVER = "data_buffer_size_limit"


def add_up_counters_at_once() -> None:
    """Make the local runner add up the counters of a bundle when the bundle ends.

    Beam keeps what every bundle has counted until the job ends, in a generator that reads the
    generator before it (`FnApiRunner.run_stages` in fn_runner.py). A stream ends bundles all day:
    it grows by more than 1 GB an hour, and ends with a RecursionError.

    Issue: not reported.
    Seen in: Python SDK 2.77.
    """
    from apache_beam.metrics.monitoring_infos import consolidate, to_key
    from apache_beam.runners.portability.fn_api_runner import fn_runner

    def consolidate_now(metrics: Any, key: Any = to_key) -> Any:
        return list(consolidate(metrics, key))

    fn_runner.consolidate_monitoring_infos = consolidate_now


def let_prism_wait(last: beam.PCollection[None]) -> None:
    """Put a step behind the last step of a stream, which has no output.

    While a bundle runs whose stage has no output, Prism loops without a pause and takes a core:
    `stage.Execute` (stage.go) selects on `DataWait`, a channel that `B.Init` (bundle.go) has
    closed. A stream is always in such a bundle. A GroupByKey is a stage of its own on Prism; a
    Reshuffle is not.

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
    """Make Flink hand each timer over to its worker at once, unless the buffer's size is given.

    Beam's Java runner keeps what it has for a worker, timers too, until the bundle ends or there
    is 1 MB of it (`BeamFnDataOutboundAggregator.java`). A reader that a timer drives would do
    nothing for the first part of each bundle.

    Issue: not reported.
    Seen in: Java SDK 2.70.
    """
    debug = options.view_as(DebugOptions)
    if debug.lookup_experiment(_HAND_OVER) is None:
        debug.add_experiment(f"{_HAND_OVER}=1")


def leave_packages_out_of_the_log(options: PipelineOptions) -> None:
    """Keep Beam from listing the installed packages for the log of the workers.

    Beam runs `pip freeze` for it at each submission (`Stager` in stager.py), which environments
    made by uv lack.

    Issue: https://github.com/apache/beam/issues/28563 asked for the list.
    Seen in: Python SDK 2.77.
    """
    options.view_as(DebugOptions).add_experiment("disable_logging_submission_environment")


def keep_values_out_of_the_log() -> None:
    """Take the values out of Beam's warning about unknown flags: they may be secret.

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


@contextmanager
def removing_jar_copies() -> Iterator[None]:
    """Give Beam a folder of its own for temporary files, and remove it at the end.

    Beam copies the jar of its Flink runner, 160 MB, into the folder of temporary files, and leaves
    it there when a submission fails; it never removes the folder that it makes for it
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


class SavepointFlinkRunner(FlinkRunner):
    """Beam's Flink runner, but it honours `--savepoint_path` and `--allow_non_restored_state`.

    Beam's Java runner honours them only if it connects to the cluster itself, as a job server does.
    A jar that Flink runs begins where the request to run it says, and Beam's request says nothing
    (`FlinkBeamJob.run` in flink_uber_jar_job_server.py).

    Issue: not reported; https://github.com/apache/beam/pull/7169 added the option.
    Seen in: Python SDK 2.77, Java SDK 2.70.
    """

    def default_job_server(self, options: PipelineOptions) -> Any:
        """Return the job server of the options: in this process for a job submitted as a jar."""
        given = options.view_as(FlinkOptions)
        flink = options.view_as(FlinkRunnerOptions)
        if not (flink.flink_submit_uber_jar and given.savepoint_path):
            return super().default_job_server(options)
        master = self.add_http_scheme(flink.flink_master)
        flink.flink_master = "[auto]"  # of the jar: the cluster it runs in
        savepoint = {
            "savepointPath": given.savepoint_path,
            "allowNonRestoredState": is_yes(given.allow_non_restored_state),
        }
        return _JobServer(savepoint, master, options)


class _JobServer(FlinkUberJarJobServer):
    """Makes jobs that begin from a savepoint."""

    def __init__(self, savepoint: dict[str, Any], *args: Any) -> None:
        super().__init__(*args)
        self._savepoint = savepoint

    def create_beam_job(self, job_id: str, job_name: str, pipeline: Any, options: Any) -> _Job:
        return _Job(
            self._savepoint,
            self._master_url,
            self.executable_jar(),
            job_id,
            job_name,
            pipeline,
            options,
            artifact_port=self._artifact_port,
        )


class _Job(FlinkBeamJob):
    """A job that tells Flink where to begin."""

    def __init__(self, savepoint: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._savepoint = savepoint

    def post(self, path: str, **kwargs: Any) -> Any:
        if path.endswith("/run"):
            kwargs["json"] = {**kwargs["json"], **self._savepoint}
        return super().post(path, **kwargs)
