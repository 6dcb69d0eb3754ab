"""The wait at the end of a bundle."""

from __future__ import annotations

from apache_beam.options.pipeline_options import SetupOptions
from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.utils.counters import CounterFactory

from scoreline.pipelines.runners.runner import choose_runner
from scoreline.transforms.worker.sampling import SAMPLING_MS


def test_a_worker_of_a_stream_samples_often():
    assert StateSampler("step", CounterFactory()).sampling_period_ms == SAMPLING_MS
    runner = choose_runner(["--beam_plugin=own"], streaming=True)
    assert runner.options.view_as(SetupOptions).beam_plugins == [
        "own",
        "scoreline.transforms.worker.sampling",
    ]
