from __future__ import annotations

import subprocess
import sys

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter

from scoreline.transforms import bundle_metrics, metrics
from scoreline.transforms.bundle_metrics import BundleMetrics
from tests.fakes import ROOT


def test_names_carry_their_unit_and_are_unique():
    names = [metric.name for metric in metrics.ALL]
    assert len(set(names)) == len(names)
    declared = {value for value in vars(metrics).values() if isinstance(value, metrics.Metric)}
    assert declared == set(metrics.ALL)
    for metric in metrics.ALL:
        assert metric.unit in metric.name or metric.name.startswith(f"{metric.unit}_"), metric
        assert metric.kind in ("counter", "distribution")


def test_fractions_of_a_millisecond_are_not_lost_between_bundles(monkeypatch):
    counted = []
    counter = type("Counter", (), {"inc": lambda self, n: counted.append(n)})()
    monkeypatch.setattr(bundle_metrics.Metrics, "counter", lambda *_: counter)
    kept = BundleMetrics()
    for _ in range(10):
        kept.count(metrics.READ_MS, 0.4)
        kept.flush()
    assert sum(counted) == pytest.approx(4, abs=1)


class _CountDoFn(beam.DoFn):
    def setup(self):
        self._metrics = BundleMetrics()

    def process(self, rows):
        self._metrics.count(metrics.ROWS_READ, rows)
        self._metrics.observe(metrics.BATCH_ROWS, rows)
        yield rows

    def finish_bundle(self):
        self._metrics.flush()


def test_counts_reach_beam():
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | beam.Create([2, 3]) | beam.ParDo(_CountDoFn())
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace(metrics.NAMESPACE))
    assert [(c.key.metric.name, c.committed) for c in found["counters"]] == [("rows_read", 5)]
    distribution = found["distributions"][0].committed
    assert (distribution.sum, distribution.count) == (5, 2)


def test_scoring_a_record_batch_imports_no_beam():
    code = "import sys, scoreline.transforms.scoring; print('apache_beam' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
