"""Beam's engines still need our workarounds: see tests/pipelines/test_workarounds.py."""

from __future__ import annotations

import re
import subprocess
import time

import apache_beam as beam
import psutil
import pytest

from scoreline.pipelines.options.java_flags import JAVA_OPTIONS
from scoreline.pipelines.runners.flink_options import job_server_jar
from scoreline.pipelines.runners.runner import choose_runner
from tests.flink import require_flink

_BUSY_CPU_SECONDS = 2.0
_MAX_SECONDS = 90.0


class _OutputsNothingUntilBusy(beam.DoFn):
    """Stays in one bundle until the runner's process has used a given CPU time, or a timeout."""

    def __init__(self, binary, told):
        self._binary = binary
        self._told = told

    def process(self, element):
        (prism,) = [
            child for child in psutil.Process().children() if child.exe() == str(self._binary)
        ]
        used, until = prism.cpu_times().user, time.monotonic() + _MAX_SECONDS
        while time.monotonic() < until:
            time.sleep(0.1)
            if prism.cpu_times().user - used >= _BUSY_CPU_SECONDS:
                self._told.write_text("busy")
                return


@pytest.mark.prism
def test_let_prism_wait_or_it_takes_a_core(tmp_path, prism):
    """The runner's wait uses a whole core; a proper wait uses 2 s of CPU in many minutes."""
    runner = choose_runner(["--runner=prism", f"--prism_location={prism}"])
    pipeline = runner.make_pipeline(1)
    told = tmp_path / "told"
    _ = pipeline | beam.Create([0]) | beam.ParDo(_OutputsNothingUntilBusy(prism, told))
    runner.run(pipeline, "", print, endless=False)
    assert told.exists()


def _javap(class_name):
    require_flink()
    command = ["javap", "-p", "-constants", "-cp", str(job_server_jar()), class_name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.flink
def test_hand_over_timers_at_once_or_they_wait_for_their_bundle():
    """Elements are flushed only because of their amount, never because of their age."""
    told = _javap("org.apache.beam.sdk.fn.data.BeamFnDataOutboundAggregator")
    assert "DEFAULT_BUFFER_LIMIT_BYTES = 1000000;" in told
    assert "DEFAULT_BUFFER_LIMIT_TIME_MS = -1l;" in told


@pytest.mark.flink
def test_a_splittable_reader_leaves_state_behind():
    """Each residual of a splittable step creates a state of its own; the fix keeps one map."""
    told = _javap(
        "org.apache.beam.runners.fnexecution.control."
        "BundleCheckpointHandlers$StateAndTimerBundleCheckpointHandler"
    )
    assert "constructSdfCheckpointId" in told
    assert "residualStateTag" not in told


# These are also flags of Beam's Python SDK, or useless here: other ways to submit a job, Java's own
# sources and sinks, DataSet steps, and settings that our batch jobs have anyway.
_KNOWN_TO_PYTHON = {"flink_master", "parallelism", "max_parallelism"}
_OF_NO_USE = {
    "attached_mode",
    "auto_balance_write_files_sharding_enabled",
    "file_input_split_max_size_m_b",
    "job_check_interval_in_secs",
    "re_iterable_group_by_key_result",
    "use_data_stream_for_batch",
}


@pytest.mark.flink
def test_options_of_beams_java_runner_are_those_that_are_taken():
    told = _javap("org.apache.beam.runners.flink.FlinkPipelineOptions")
    told += _javap("org.apache.beam.runners.flink.VersionDependentFlinkPipelineOptions")
    getters = set(re.findall(r"\b(?:get|is)([A-Z]\w+)\(\)", told))
    names = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in getters}
    assert names - _KNOWN_TO_PYTHON - _OF_NO_USE == set(JAVA_OPTIONS)
