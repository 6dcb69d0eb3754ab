"""Which runner executes a pipeline, and where its workers live; no other file knows runners."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
)
from apache_beam.runners.runner import PipelineResult, PipelineRunner, create_runner
from apache_beam.transforms import window

from scoreline.models.errors import ModelError
from scoreline.models.process import ModelProcess
from scoreline.models.servable import shared_servable
from scoreline.models.signature import Signature
from scoreline.pipelines.options.batch import BatchScoringSettings
from scoreline.pipelines.options.runner import runner_name
from scoreline.pipelines.runners.flink import FlinkOptions
from scoreline.pipelines.runners.flink_job import run_on_flink
from scoreline.pipelines.runners.flink_rest import FlinkRest


def make_runner(options: PipelineOptions, workers: int) -> PipelineRunner:
    """Return the runner, with its options set for so many workers.

    Local workers are threads of this process (decision 0002): a TensorFlow call and the reading and
    writing of Parquet release Python's lock, the model is loaded once, and no further process has
    to import TensorFlow. `--direct_running_mode=multi_processing` overrides it.
    """
    if runner_name(options) == "FlinkRunner":
        from scoreline.pipelines.runners.flink_submit import SavepointFlinkRunner

        return SavepointFlinkRunner()
    if runner_name(options) != "FnApiRunner":
        return create_runner(runner_name(options))
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    _add_up_counters_at_once()
    direct = options.view_as(DirectOptions)
    direct.direct_num_workers = workers
    if direct.direct_running_mode == "in_memory" and workers > 1:
        direct.direct_running_mode = "multi_threading"
    return FnApiRunner()


def _add_up_counters_at_once() -> None:
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


def let_runner_wait(last: beam.PCollection[None], options: PipelineOptions) -> None:
    """Give the last step of a stream, which gives nothing, one behind it where that saves a core.

    While a bundle runs whose stage has no output, Prism (2.77) turns without a pause: the loop of
    `stage.Execute` selects on `DataWait`, which `B.Init` has closed. A stream is always in such a
    bundle. A GroupByKey is a stage of its own on Prism, which a Reshuffle is not.
    """
    if runner_name(options) == "PrismRunner":
        _ = (
            last
            | "WindowNothing" >> beam.WindowInto(window.FixedWindows(60))
            | "KeyNothing" >> beam.WithKeys(0)
            | "GroupNothing" >> beam.GroupByKey()
        )


def run_pipeline(
    pipeline: beam.Pipeline,
    options: PipelineOptions,
    name: str,
    say: Callable[[str], None],
    *,
    endless: bool = False,
) -> PipelineResult:
    """Run a pipeline to its end.

    Args:
      pipeline: to run.
      options: its own.
      name: of the job; no other has it.
      say: gets a sentence about what happens meanwhile.
      endless: whether it is a stream, which a cluster is to end in order when it is told to.

    Raises:
      Exception: whatever the runner raises when the job as a whole fails.
    """
    if runner_name(options) != "FlinkRunner":
        result = pipeline.run()
        result.wait_until_finish()
        return result
    portable = options.view_as(PortableOptions)
    return run_on_flink(
        pipeline,
        FlinkRest(options.view_as(FlinkRunnerOptions).flink_master),
        name,
        timeout_seconds=float(options.view_as(FlinkOptions).submit_timeout_s),
        environment=f"{portable.environment_type} {portable.environment_config or ''}".strip(),
        say=say,
        endless=endless,
    )


def workers_share_process(options: PipelineOptions) -> bool:
    """Return whether the workers are threads of this process."""
    if runner_name(options) == "FnApiRunner":
        return options.view_as(DirectOptions).direct_running_mode != "multi_processing"
    environment = options.view_as(PortableOptions).environment_type
    default = "LOOPBACK" if runner_name(options) == "PrismRunner" else ""
    return (environment or default) == "LOOPBACK"


def read_signature(
    settings: BatchScoringSettings, digest: str, options: PipelineOptions
) -> Signature:
    """Load the model, have it answer a call, and return its signature.

    Where the workers are threads of this process the loaded model is kept for them. Elsewhere it is
    loaded in a process of its own, so that the launcher never imports TensorFlow, and a model that
    crashes does not take the launcher along; also where the model is to run in one anyway.

    Raises:
      ModelError: the model does not load or answer, or has no such signature.
    """
    load = {
        "digest": digest or None,
        "batch_rows": settings.batch_rows,
        "concurrent_calls": settings.concurrent_calls,
        "op_libraries": settings.op_libraries,
        "outputs": None if settings.outputs is None else tuple(settings.outputs),
        "ragged": settings.ragged,
    }
    model = os.path.abspath(settings.model)
    if settings.batch_timeout_s is not None:
        timeout = settings.batch_timeout_s
        with contextlib.closing(
            ModelProcess(model, settings.signature, batch_timeout_s=timeout, **load)
        ) as process:
            return process.signature
    if workers_share_process(options):
        return shared_servable(model, settings.signature, **load).signature
    command = [sys.executable, "-m", "scoreline.models.servable", model, settings.signature]
    command.append(json.dumps(load))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Signature.from_json(done.stdout.strip().rsplit("\n", 1)[-1])
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    raise ModelError(
        lines[-1]
        if done.returncode == 2
        else f"Model {settings.model} crashed its process: {lines[-1]}"
    )
