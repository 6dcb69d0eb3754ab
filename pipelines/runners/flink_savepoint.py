"""Beam's runner for Flink, with savepoints."""

from __future__ import annotations

from typing import Any

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.flink_uber_jar_job_server import (
    FlinkBeamJob,
    FlinkUberJarJobServer,
)

from scoreline.pipelines.runners.flink_options import FlinkOptions, is_yes


class SavepointFlinkRunner(FlinkRunner):
    """Beam's Flink runner, but it honours `--savepoint_path` and `--allow_non_restored_state`.

    Beam's Java runner honours them only if it connects to the cluster itself, like a job server.
    For a jar, the savepoint must be in the request to run it, and Beam's request has none
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
        flink.flink_master = "[auto]"  # for a jar: its own cluster
        savepoint = {
            "savepointPath": given.savepoint_path,
            "allowNonRestoredState": is_yes(given.allow_non_restored_state),
        }
        return _JobServer(savepoint, master, options)


class _JobServer(FlinkUberJarJobServer):
    """Creates jobs that start from a savepoint."""

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
    """A job whose request to Flink has a savepoint."""

    def __init__(self, savepoint: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._savepoint = savepoint

    def post(self, path: str, **kwargs: Any) -> Any:
        if path.endswith("/run"):
            kwargs["json"] = {**kwargs["json"], **self._savepoint}
        return super().post(path, **kwargs)
