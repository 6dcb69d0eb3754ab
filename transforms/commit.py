"""Receipts → transactions that publish partitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue
from deltalake import DeltaTable

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import Outcome, Receipt
from scoreline.lake.storage import table_uri
from scoreline.lake.table.commit import CommitSpec, commit_partitions
from scoreline.lake.table.tracebacks import explain_unexpected, put_traceback_away
from scoreline.transforms import metrics, stage_times
from scoreline.transforms.bundle_metrics import BundleMetrics

# A transaction is full at this number of partitions, or of their shards. A large partition does not
# wait for others: they would save it nothing.
_MAX_PARTITIONS = 64
_MAX_SHARDS = 256


class _CommitDoFn(beam.DoFn):
    """Publishes the partitions of a bundle together, at the latest when it ends."""

    def __init__(self, spec: CommitSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        stage_times.start(self._spec.stage_times)
        self._metrics = BundleMetrics()
        self._table = DeltaTable(table_uri(self._spec.output))

    def start_bundle(self) -> None:
        # By partition: its receipts, and where its outcome belongs.
        self._waiting: dict[str, tuple[list[Receipt], WindowedValue]] = {}

    def process(
        self,
        element: tuple[str, Iterable[Receipt]],
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[WindowedValue]:
        partition, receipts = element
        if partition in self._waiting:
            yield from self._publish()
        self._waiting[partition] = list(receipts), WindowedValue(None, timestamp, (window,))
        shards = sum(len(waiting) for waiting, _ in self._waiting.values())
        if len(self._waiting) >= _MAX_PARTITIONS or shards >= _MAX_SHARDS:
            yield from self._publish()

    def _publish(self) -> Iterator[WindowedValue]:
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        with self._metrics.timed(metrics.COMMIT_MS):
            outcomes = self._commit([receipts for receipts, _ in waiting.values()])
        self._metrics.pass_rows(metrics.COMMIT_MS, sum(outcome.rows_in for outcome in outcomes))
        for outcome, (_, place) in zip(outcomes, waiting.values(), strict=True):
            yield place.with_value(outcome)

    def _commit(self, partitions: list[list[Receipt]]) -> list[Outcome]:
        try:
            return commit_partitions(partitions, self._spec, self._table)
        except Exception as e:  # noqa: BLE001  an unexpected error costs its partition, not the job
            if len(partitions) > 1:
                return [self._commit([receipts])[0] for receipts in partitions]
            partition, run_id = partitions[0][0].partition, partitions[0][0].run_id
            reason = put_traceback_away(explain_unexpected(e, "committing"), self._spec.output)
            return [Outcome(partition, run_id, "failed", reason=reason)]

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from self._publish()
        self._metrics.flush()
        stage_times.leave()

    def teardown(self) -> None:
        stage_times.stop(self._spec.stage_times)


def _by_partition(receipt: Receipt) -> tuple[str, Receipt]:
    return receipt.partition, receipt


@dataclasses.dataclass(kw_only=True, eq=False)
class CommitPartitions(beam.PTransform):
    """Publish each partition after the receipts of all its shards, those of a bundle together.

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
