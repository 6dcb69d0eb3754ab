from __future__ import annotations

import inspect
import sys

import apache_beam as beam
import pytest
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.transforms.core import RestrictionProvider

from scoreline.pipelines.runners.runner import choose_runner
from scoreline.pipelines.score_batch import read_counters
from scoreline.transforms import metrics
from scoreline.transforms.bundle_metrics import BundleMetrics

BUNDLES = 400


class _OnePerBundle(beam.DoFn, RestrictionProvider):
    """Ends a bundle after each record, as a stream does after each poll."""

    def initial_restriction(self, element):
        return OffsetRange(0, BUNDLES)

    def create_tracker(self, restriction):
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element, restriction):
        return restriction.size()

    def setup(self):
        self._metrics = BundleMetrics()

    def process(self, element, tracker=beam.DoFn.RestrictionParam()):  # noqa: B008
        at = tracker.current_restriction().start
        if tracker.try_claim(at):
            self._metrics.count(metrics.ROWS_READ, 1)
            yield at
            tracker.defer_remainder()

    def finish_bundle(self):
        self._metrics.flush()


def test_a_job_of_many_bundles_can_tell_what_it_counted():
    """Beam's local runner goes through a generator for each bundle, one within the other."""
    pipeline = choose_runner([]).make_pipeline(1)
    _ = pipeline | beam.Create([0]) | beam.ParDo(_OnePerBundle())
    result = pipeline.run()
    result.wait_until_finish()
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + BUNDLES // 2)
    try:
        counters = read_counters(result)
    finally:
        sys.setrecursionlimit(usual)
    assert counters["rows_read"] == BUNDLES


@pytest.mark.parametrize(
    ("runner", "has_output"),
    [("FnApiRunner", False), ("PrismRunner", True), ("FlinkRunner", False)],
)
def test_only_for_prism_a_streams_stage_gets_an_output(runner, has_output):
    """Elsewhere all of a stream is one stage. What it costs Prism is in docs/streaming.md."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    last = pipeline | "Last" >> beam.Create([])
    choose_runner([f"--runner={runner}"], streaming=True).end_stream(last)
    transforms = pipeline.to_runner_api().components.transforms.values()
    assert ("GroupNothing" in {transform.unique_name for transform in transforms}) == has_output
