"""Scored batches and dead letters → staged Parquet files and receipts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import BatchKey, Receipt, Shard
from scoreline.lake.storage import resolve
from scoreline.lake.table.layout import STAGED_FOLDER, dead_letters_root, safe_folder
from scoreline.lake.table.receipts import write_receipt
from scoreline.lake.table.shard_writer import ShardWriter
from scoreline.lake.table.staged_file import StagedFile
from scoreline.transforms import metrics
from scoreline.transforms.bundle_metrics import BundleMetrics


class _StageDeadLettersDoFn(beam.DoFn):
    def __init__(self, output: str) -> None:
        self._output = output

    def setup(self) -> None:
        self._fs, self._root = resolve(dead_letters_root(self._output))
        self._open: dict[tuple[str, int], tuple[Shard, StagedFile]] = {}
        self._failed: dict[tuple[str, int], tuple[Shard, str]] = {}

    def start_bundle(self) -> None:
        self.teardown()  # what a failed bundle left open

    def process(self, element: tuple[BatchKey, pa.RecordBatch]) -> None:
        key, letters = element
        shard = key.shard
        at = (shard.partition, shard.number)
        if at in self._failed:
            return
        try:
            if at not in self._open:
                file = StagedFile(self._fs, self._root, STAGED_FOLDER, shard, letters.schema)
                self._open[at] = (shard, file)
            self._open[at][1].write(letters)
        except (OSError, pa.ArrowException) as e:
            if at in self._open:
                self._open.pop(at)[1].abandon()
            self._failed[at] = (shard, f"dead letters cannot be written to {self._root}: {e}")

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for shard, file in self._open.values():
            yield GlobalWindows.windowed_value(_close(shard, file, self._output))
        for shard, error in self._failed.values():
            yield GlobalWindows.windowed_value(Receipt.of(shard, error=error))
        self._open.clear()
        self._failed.clear()

    def teardown(self) -> None:
        for _, file in self._open.values():
            file.abandon()
        self._open.clear()
        self._failed.clear()


def _close(shard: Shard, file: StagedFile, output: str) -> Receipt:
    try:
        staged = file.close()
        receipt = Receipt.of(
            shard,
            path=staged.path,
            size_bytes=staged.size_bytes,
            checksum=staged.checksum,
            rows_dead=staged.rows,
        )
        write_receipt(output, receipt)
    except (OSError, pa.ArrowException) as e:
        file.abandon()
        return Receipt.of(shard, error=f"dead letters of {file.path} cannot be written: {e}")
    return receipt


@dataclasses.dataclass(kw_only=True, eq=False)
class StageDeadLetters(beam.PTransform):
    """Write dead letters to Parquet, one file per shard, and give a Receipt for each file.

    The files are in `<output>_dead_letters/_staged` until the partition is committed.
    """

    output: str

    def expand(
        self, dead_letters: beam.PCollection[tuple[BatchKey, pa.RecordBatch]]
    ) -> beam.PCollection[Receipt]:
        """Write within the bundle that holds a shard's batches."""
        return dead_letters | "WriteDeadLetters" >> beam.ParDo(
            _StageDeadLettersDoFn(self.output)
        ).with_output_types(Receipt)


class _StageDoFn(beam.DoFn):
    def __init__(self, stage: StageParquet) -> None:
        self._stage = stage

    def setup(self) -> None:
        self._fs, self._root = resolve(self._stage.output)
        self._metrics = BundleMetrics()
        self._open: dict[tuple[str, int], ShardWriter] = {}
        self._failed: dict[tuple[str, int], str] = {}

    def start_bundle(self) -> None:
        self.teardown()  # what a failed bundle left open

    def process(self, element: tuple[BatchKey, pa.RecordBatch]) -> Iterator[Receipt]:
        key, batch = element
        at = (key.shard.partition, key.shard.number)
        with self._metrics.timed(metrics.STAGE_MS):
            try:
                receipt = self._write(at, key, batch)
            except (OSError, pa.ArrowException) as e:
                self._fail(at, f"cannot write to {self._stage.output}: {e}")
                receipt = None
        if key.last:
            yield receipt or Receipt.of(key.shard, error=self._failed.pop(at, ""))

    def _write(self, at: tuple[str, int], key: BatchKey, batch: pa.RecordBatch) -> Receipt | None:
        if key.error:
            self._fail(at, key.error)
        if at in self._failed:
            return None
        if at not in self._open:
            self._open[at] = self._open_writer(key.shard)
        self._open[at].write(key, batch)
        if not key.last:
            return None
        receipt = self._open[at].close()
        del self._open[at]
        write_receipt(self._stage.output, receipt)
        self._metrics.count(metrics.BYTES_STAGED, receipt.size_bytes)
        return receipt

    def _open_writer(self, shard: Shard) -> ShardWriter:
        folder = safe_folder(shard.partition)
        statistics = self._stage.statistics
        file = StagedFile(
            self._fs, self._root, folder, shard, self._stage.schema, statistics=statistics
        )
        return ShardWriter(file, shard, self._stage.integer_key)

    def _fail(self, at: tuple[str, int], reason: str) -> None:
        if at in self._open:
            self._open.pop(at).abandon()
        self._failed[at] = reason

    def finish_bundle(self) -> None:
        self._metrics.flush()
        if self._open:
            unfinished = sorted(f"{partition} shard {index}" for partition, index in self._open)
            raise ValueError(
                f"Expected every shard to end within its bundle, got no end of {unfinished}: the "
                "runner must keep the steps ReadRecordBatches, Score and StageParquet fused"
            )

    def teardown(self) -> None:
        for writer in self._open.values():
            writer.abandon()
        self._open.clear()
        self._failed.clear()


@dataclasses.dataclass(kw_only=True, eq=False)
class StageParquet(beam.PTransform):
    """Write each shard's scores to one Parquet file of the table, which no reader sees yet.

    Gives a Receipt for each shard. It says that the file is whole, or why there is none. Staging
    the same shard twice leaves the same file, or a second one beside it; a commit takes one.

    Attributes:
      output: the table's root.
      schema: columns and types of the files.
      statistics: columns that Delta Lake may skip files by.
      integer_key: the key column, when there is one only and it holds integers.
    """

    output: str
    schema: pa.Schema
    statistics: tuple[str, ...]
    integer_key: str | None

    def expand(
        self, scores: beam.PCollection[tuple[BatchKey, pa.RecordBatch]]
    ) -> beam.PCollection[Receipt]:
        """Write within the bundle that holds a shard's batches."""
        return scores | "WriteParquet" >> beam.ParDo(_StageDoFn(self)).with_output_types(Receipt)
