"""Receipts → one transaction per partition."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
from deltalake import DeltaTable

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import Outcome, Receipt
from scoreline.lake.storage import table_uri
from scoreline.lake.table.commit import CommitSpec, commit_partition
from scoreline.lake.table.tracebacks import explain_unexpected, put_traceback_away
from scoreline.transforms import metrics
from scoreline.transforms.bundle_metrics import BundleMetrics


class _CommitDoFn(beam.DoFn):
    def __init__(self, spec: CommitSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._metrics = BundleMetrics()
        self._table = DeltaTable(table_uri(self._spec.output))

    def process(self, element: tuple[str, Iterable[Receipt]]) -> Iterator[Outcome]:
        _, receipts = element
        with self._metrics.timed(metrics.COMMIT_MS):
            yield self._commit(list(receipts))

    def _commit(self, receipts: list[Receipt]) -> Outcome:
        try:
            return commit_partition(receipts, self._spec, self._table)
        except Exception as e:  # noqa: BLE001  an unexpected error costs its partition, not the job
            partition, run_id = receipts[0].partition, receipts[0].run_id
            reason = put_traceback_away(explain_unexpected(e, "committing"), self._spec.output)
            return Outcome(partition, run_id, "failed", reason=reason)

    def finish_bundle(self) -> None:
        self._metrics.flush()


def _by_partition(receipt: Receipt) -> tuple[str, Receipt]:
    return receipt.partition, receipt


@dataclasses.dataclass(kw_only=True, eq=False)
class CommitPartitions(beam.PTransform):
    """Publish each partition after the receipts of all its shards.

    Returns one Outcome per partition. Idempotent: a retried bundle commits nothing twice.
    """

    spec: CommitSpec

    def expand(self, receipts: beam.PCollection[Receipt]) -> beam.PCollection[Outcome]:
        """Group receipts by partition and commit."""
        return (
            receipts
            | "KeyByPartition" >> beam.Map(_by_partition).with_output_types(tuple[str, Receipt])
            | "GatherReceipts" >> beam.GroupByKey()
            | "CommitPartition" >> beam.ParDo(_CommitDoFn(self.spec)).with_output_types(Outcome)
        )
