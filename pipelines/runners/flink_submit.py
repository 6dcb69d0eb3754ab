"""Beam's Flink runner, but that a job submitted as a jar may begin from a savepoint.

Beam's Java runner heeds `--savepoint_path` where it makes the connection to the cluster itself,
which is with a job server. In a jar that Flink runs, Flink decides, by what it is asked to run.
"""

from __future__ import annotations

from typing import Any

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.flink_uber_jar_job_server import (
    FlinkBeamJob,
    FlinkUberJarJobServer,
)

from scoreline.pipelines.runners.flink import FlinkOptions, is_yes


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
