"""Scored batches and dead letters → staged Parquet files and receipts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import BatchKey, Receipt, Shard
from scoreline.lake.table.layout import dead_letters_root
from scoreline.lake.table.letters import locate_dead_letters
from scoreline.lake.table.receipts import write_receipt
from scoreline.lake.table.shard_writer import ShardWriter, StageSpec, open_letters, open_scores
from scoreline.lake.table.tracebacks import explain_unexpected, put_traceback_away
from scoreline.transforms import metrics, stage_times
from scoreline.transforms.bundle_metrics import BundleMetrics


class _StageDoFn(beam.DoFn):
    """Write the rows of each shard to one file, and return a receipt at the shard's end.

    Scores end with the batch that the reader marks as `last`. A shard may have no dead letters, and
    their last batch has no mark. They end with the bundle, which holds whole shards.
    """

    def __init__(
        self,
        output: str,
        what: str,
        open_writer: Callable[[Shard, pa.RecordBatch], ShardWriter],
        *,
        ends_with_bundle: bool,
    ) -> None:
        self._output = output
        self._what = what
        self._open_writer = open_writer
        self._ends_with_bundle = ends_with_bundle

    def setup(self) -> None:
        self._metrics = BundleMetrics()
        # By partition and number of the shard. Failed shards are not open any more.
        self._open: dict[tuple[str, int], tuple[Shard, ShardWriter]] = {}
        self._failed: dict[tuple[str, int], tuple[Shard, str]] = {}

    def start_bundle(self) -> None:
        self.teardown()  # files that a failed bundle left open

    def process(self, element: tuple[BatchKey, pa.RecordBatch]) -> Iterator[Receipt]:
        key, batch = element
        at = (key.shard.partition, key.shard.number)
        receipt = None
        with self._metrics.timed(metrics.STAGE_MS):
            self._write(at, key, batch)
            if key.last and not self._ends_with_bundle:
                receipt = self._end(at)
        self._metrics.pass_rows(metrics.STAGE_MS, batch.num_rows)
        if receipt is not None:
            yield receipt

    def _write(self, at: tuple[str, int], key: BatchKey, batch: pa.RecordBatch) -> None:
        if key.error:
            self._fail(at, key.shard, key.error)
        if at in self._failed:
            return
        try:
            if at not in self._open:
                self._open[at] = (key.shard, self._open_writer(key.shard, batch))
            self._open[at][1].write(key, batch)
        except (OSError, pa.ArrowException) as e:
            self._fail(at, key.shard, f"cannot write {self._what}: {e}")
        except Exception as e:  # noqa: BLE001  an unexpected error costs its partition, not the job
            self._fail(at, key.shard, self._explain(e))

    def _end(self, at: tuple[str, int]) -> Receipt:
        """Close a shard's file and return its receipt, or a receipt with the error."""
        if at in self._open:
            shard, writer = self._open[at]
            try:
                receipt = writer.close()
                if receipt.path:
                    write_receipt(self._output, receipt)
            except (OSError, pa.ArrowException) as e:
                self._fail(at, shard, f"cannot write {self._what}: {e}")
            except Exception as e:  # noqa: BLE001  as above
                self._fail(at, shard, self._explain(e))
            else:
                del self._open[at]
                self._metrics.count(metrics.BYTES_STAGED, receipt.size_bytes)
                return receipt
        shard, error = self._failed.pop(at)
        return Receipt.of(shard, error=error)

    def _explain(self, error: Exception) -> str:
        return explain_unexpected(error, f"writing {self._what}")

    def _fail(self, at: tuple[str, int], shard: Shard, reason: str) -> None:
        if at in self._open:
            self._open.pop(at)[1].abandon()
        self._failed[at] = (shard, put_traceback_away(reason, self._output))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._ends_with_bundle:
            for at in [*self._open, *self._failed]:
                yield GlobalWindows.windowed_value(self._end(at))
        self._metrics.flush()
        stage_times.leave()
        if self._open:
            unfinished = sorted(f"{partition} shard {index}" for partition, index in self._open)
            raise ValueError(
                f"Expected every shard to end in its bundle, got no end of {unfinished}. The "
                "runner must fuse the steps ReadRecordBatches, Score and StageScores"
            )

    def teardown(self) -> None:
        for _, writer in self._open.values():
            writer.abandon()
        self._open.clear()
        self._failed.clear()


@dataclasses.dataclass(kw_only=True, eq=False)
class StageScores(beam.PTransform):
    """Write each shard's scores to one Parquet file in the table's folder, invisible to readers.

    Returns one Receipt per shard, with the complete file or the error. At least once: staging a
    shard twice gives the same file, or a second one, and a commit uses only one of them.
    """

    spec: StageSpec

    def expand(
        self, scores: beam.PCollection[tuple[BatchKey, pa.RecordBatch]]
    ) -> beam.PCollection[Receipt]:
        """Write in the bundle that holds a shard's batches."""
        output = self.spec.output
        write = _StageDoFn(
            output,
            f"to {output}",
            functools.partial(open_scores, self.spec),
            ends_with_bundle=False,
        )
        return scores | "WriteScores" >> beam.ParDo(write).with_output_types(Receipt)


@dataclasses.dataclass(kw_only=True, eq=False)
class StageDeadLetters(beam.PTransform):
    """Write each shard's dead letters to one Parquet file, and return one Receipt per file.

    Takes the dead letters of `Score`, and adds the position of each row in the input files. The
    files are in `<output>_dead_letters/_staged` until the partition is committed.
    """

    output: str

    def expand(
        self, dead_letters: beam.PCollection[tuple[BatchKey, pa.RecordBatch]]
    ) -> beam.PCollection[Receipt]:
        """Write in the bundle that holds a shard's batches."""
        write = _StageDoFn(
            self.output,
            f"dead letters to {dead_letters_root(self.output)}",
            functools.partial(open_letters, self.output),
            ends_with_bundle=True,
        )
        return (
            dead_letters
            | "LocateDeadLetters"
            >> beam.MapTuple(_locate).with_output_types(tuple[BatchKey, pa.RecordBatch])
            | "WriteDeadLetters" >> beam.ParDo(write).with_output_types(Receipt)
        )


def _locate(key: BatchKey, letters: pa.RecordBatch) -> tuple[BatchKey, pa.RecordBatch]:
    return key, locate_dead_letters(key, letters)
