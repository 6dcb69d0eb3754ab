"""Shards → unfinished shards, and receipts of shards that are already staged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import apache_beam as beam

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import Receipt, Shard
from scoreline.lake.table.receipts import find_receipts, is_staged
from scoreline.transforms import metrics
from scoreline.transforms.bundle_metrics import BundleMetrics


class _SkipDoFn(beam.DoFn):
    def __init__(self, output: str) -> None:
        self._output = output

    def setup(self) -> None:
        self._metrics = BundleMetrics()

    def process(self, shard: Shard) -> Iterator[Shard | beam.pvalue.TaggedOutput]:
        receipts = find_receipts(self._output, shard)
        if receipts and all(is_staged(self._output, receipt) for receipt in receipts):
            self._metrics.count(metrics.SHARDS_SKIPPED, 1)
            for receipt in receipts:
                yield beam.pvalue.TaggedOutput("receipts", receipt)
            return
        yield shard

    def finish_bundle(self) -> None:
        self._metrics.flush()


@dataclasses.dataclass(kw_only=True, eq=False)
class SkipStaged(beam.PTransform):
    """Skip shards that are already staged; only the others are scored.

    An earlier run that was killed may have staged them, or an earlier attempt of this job, if the
    runner has restarted it. Their files are verified first. Returns their `receipts`, and all other
    `shards`.
    """

    output: str

    def expand(self, shards: beam.PCollection[Shard]) -> beam.pvalue.DoOutputsTuple:
        """Look for receipts on the worker that would read the shard, just before the read."""
        return shards | "FindStaged" >> beam.ParDo(_SkipDoFn(self.output)).with_output_types(
            Shard, receipts=Receipt
        ).with_outputs("receipts", main="shards")
