"""Everything that patches Beam, or steers it around a fault; nothing else in the project does.

Each entry says what Beam does and where, the upstream issue, and the versions it was seen in.
tests/pipelines/test_workarounds.py shows for each that Beam still needs it, and fails once it does
not. Workers must be able to import some without this room, so these live elsewhere:

- transforms/worker/sampling.py: ends of bundles wait for Beam's state sampler.
- transforms/kafka/poll.py: a splittable reader leaves state behind on Flink (decision 0014).
- transforms/kafka/read.py `_do_nothing`: Prism finalizes bundles that registered no callback.
- deploy/local/worker_pool.py: Beam's worker pool mixes up the workers of two TaskManagers.
"""

from __future__ import annotations

import logging
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
    """Have the local runner add up the counters of each bundle when it ends.

    As it is (Beam 2.77, `FnApiRunner.run_stages`) it keeps what every bundle has counted, in a
    generator that goes through the generator before it, until the job ends. A stream, which ends
    bundles all day, would grow by more than 1 GB an hour, and end with a RecursionError.
    """
    from apache_beam.metrics.monitoring_infos import consolidate, to_key
    from apache_beam.runners.portability.fn_api_runner import fn_runner

    def consolidate_now(metrics: Any, key: Any = to_key) -> Any:
        return list(consolidate(metrics, key))

    fn_runner.consolidate_monitoring_infos = consolidate_now


def let_prism_wait(last: beam.PCollection[None]) -> None:
    """Give the last step of a stream, which gives nothing, one behind it.

    While a bundle runs whose stage has no output, Prism (2.77) turns without a pause: the loop of
    `stage.Execute` selects on `DataWait`, which `B.Init` has closed. A stream is always in such a
    bundle. A GroupByKey is a stage of its own on Prism, which a Reshuffle is not.
    """
    _ = (
        last
        | "WindowNothing" >> beam.WindowInto(window.FixedWindows(60))
        | "KeyNothing" >> beam.WithKeys(0)
        | "GroupNothing" >> beam.GroupByKey()
    )


def hand_over_timers_at_once(options: PipelineOptions) -> None:
    """Have Flink hand each timer over to its worker at once, unless its buffer is set.

    Flink keeps what it has for a worker, a timer too, until the bundle ends or is so large: a
    reader would do nothing for the first part of each bundle.
    """
    debug = options.view_as(DebugOptions)
    if debug.lookup_experiment(_HAND_OVER) is None:
        debug.add_experiment(f"{_HAND_OVER}=1")


def leave_packages_out_of_the_log(options: PipelineOptions) -> None:
    """Have Beam not list the installed packages for the log.

    It runs `pip freeze` for it, which environments made by uv lack.
    """
    options.view_as(DebugOptions).add_experiment("disable_logging_submission_environment")


def keep_values_out_of_the_log() -> None:
    """Take the values out of Beam's warning about flags that it does not know: they may be secret.

    It logs whole flags (`PipelineOptions.get_all_options`).
    """
    logging.getLogger("apache_beam.options.pipeline_options").addFilter(_name_flags_only)


def _name_flags_only(record: logging.LogRecord) -> bool:
    """Filter of a logger; lets every record through."""
    if record.msg == _UNKNOWN_FLAGS and isinstance(record.args, tuple):
        flags = [str(flag) for given in record.args if isinstance(given, list) for flag in given]
        record.args = ([f.partition("=")[0] for f in flags if f.startswith("-")],)
    return True


class _Job(FlinkBeamJob):
    """A job that tells Flink where to begin."""

    def __init__(self, savepoint: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._savepoint = savepoint

    def post(self, path: str, **kwargs: Any) -> Any:
        if path.endswith("/run"):
            kwargs["json"] = {**kwargs["json"], **self._savepoint}
        return super().post(path, **kwargs)


class _JobServer(FlinkUberJarJobServer):
    """Makes such jobs."""

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


class SavepointFlinkRunner(FlinkRunner):
    """Beam's Flink runner that heeds `--savepoint_path` and `--allow_non_restored_state`."""

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
