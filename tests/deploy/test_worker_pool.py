"""The worker pool of a cluster on one machine; what it starts is used by the tests on Flink."""

from __future__ import annotations

import subprocess
import sys

from scoreline.transforms.worker.sampling import SAMPLING_MS
from tests.fakes import ROOT


def test_a_worker_samples_often_without_the_options_of_a_job():
    code = (
        "import deploy.local.worker_pool\n"
        "from apache_beam.runners.worker.statesampler import StateSampler\n"
        "from apache_beam.utils.counters import CounterFactory\n"
        "print(StateSampler('step', CounterFactory()).sampling_period_ms)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == SAMPLING_MS
