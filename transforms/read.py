"""Shards → keyed record batches. Shards are spread over workers; rows are never shuffled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import apache_beam as beam
import pyarrow as pa

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import BatchKey, Shard
from scoreline.lake.files.data_file import CorruptFile
from scoreline.lake.files.read import DatasetSpec, read_shard
from scoreline.lake.storage import resolve
from scoreline.lake.table.tracebacks import explain_unexpected
from scoreline.transforms import metrics, stage_times
from scoreline.transforms.bundle_metrics import BundleMetrics
from scoreline.transforms.null_stages import repeat_first

# Files of a shard that an unexpected error names.
_MAX_NAMED = 3


@dataclasses.dataclass(kw_only=True, eq=False)
class MatchShards(beam.PTransform):
    """Return the shards to score, spread over the workers.

    The shuffle of shards makes a shuffle of rows unnecessary.
    """

    shards: Sequence[Shard]

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[Shard]:
        """Create the shards, and break fusion after them."""
        return (
            root
            | "CreateShards" >> beam.Create(self.shards, reshuffle=False).with_output_types(Shard)
            | "SpreadShards" >> beam.Reshuffle()
        )


class _ReadDoFn(beam.DoFn):
    def __init__(self, dataset: DatasetSpec) -> None:
        self._dataset = dataset

    def setup(self) -> None:
        stage_times.start(self._dataset.stage_times)
        self._fs, _ = resolve(self._dataset.root)
        self._metrics = BundleMetrics()

    def process(self, shard: Shard) -> Iterator[tuple[BatchKey, pa.RecordBatch]]:
        batches: Iterator[pa.RecordBatch] | None = None
        number = first_row = 0
        error = ""
        while True:
            try:
                with self._metrics.timed(metrics.READ_MS):
                    batches = batches or self._read(shard)
                    batch = next(batches, None)
            except CorruptFile as e:
                batch, error = None, str(e)
            except Exception as e:  # noqa: BLE001  an unexpected error costs its partition
                files = ", ".join(piece.path for piece in shard.pieces[:_MAX_NAMED])
                batch, error = None, explain_unexpected(e, f"reading {files}")
            if batch is None:
                break
            self._count(batch)
            yield BatchKey(shard, number, first_row, batch.num_rows, last=False), batch
            number, first_row = number + 1, first_row + batch.num_rows
        yield BatchKey(shard, number, first_row, 0, last=True, error=error), _NO_ROWS

    def _read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        batches = read_shard(self._fs, shard, self._dataset)
        return repeat_first(batches, shard.rows) if self._dataset.repeats_first else batches

    def finish_bundle(self) -> None:
        self._metrics.flush()

    def teardown(self) -> None:
        stage_times.stop(self._dataset.stage_times)

    def _count(self, batch: pa.RecordBatch) -> None:
        self._metrics.count(metrics.ROWS_READ, batch.num_rows)
        self._metrics.pass_rows(metrics.READ_MS, batch.num_rows)
        self._metrics.count(metrics.BYTES_READ, batch.nbytes)
        self._metrics.observe(metrics.BATCH_ROWS, batch.num_rows)


_NO_ROWS = pa.RecordBatch.from_arrays([], [])


@dataclasses.dataclass(kw_only=True, eq=False)
class ReadRecordBatches(beam.PTransform):
    """Read shards as keyed record batches: only the needed columns, in the shard's row order.

    Each shard ends with a batch marked `last`, which has no rows. If a file cannot be read, the key
    of this batch carries the error. Then the partition fails, and the others continue.
    """

    dataset: DatasetSpec

    def expand(
        self, shards: beam.PCollection[Shard]
    ) -> beam.PCollection[tuple[BatchKey, pa.RecordBatch]]:
        """Read each shard from one element, so that its batches stay together and in order."""
        return shards | "ReadShard" >> beam.ParDo(_ReadDoFn(self.dataset)).with_output_types(
            tuple[BatchKey, pa.RecordBatch]
        )
