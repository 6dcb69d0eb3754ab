"""Rows that failed: what, where, why, and the Parquet files that keep them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from transforms.elements import UNKNOWN_ROWS, BatchKey, Piece, Receipt, Shard
from transforms.io.filesystems import resolve
from transforms.io.layout import STAGED_FOLDER, dead_letters_root
from transforms.io.receipts import write_receipt
from transforms.io.staged_file import StagedFile

if TYPE_CHECKING:
    from transforms.features import DeadRows

# Columns that say why, after the row's own; the underscore keeps them apart from the row's.
REASON_COLUMNS = ("_step", "_reason", "_file", "_file_row", "_shard", "_model_digest", "_run_id")


def to_dead_letters(
    key: BatchKey, batch: pa.RecordBatch, dead: DeadRows, digest: str
) -> pa.RecordBatch:
    """Return dead rows with their own columns, the step, the reason and where they came from.

    `_file` and `_file_row` (from 0) name the row in the input file.
    """
    rows = list(dead.rows)
    places = [locate_row(key.shard.pieces, key.first_row + row) for row in rows]
    why = {
        "_step": pa.array([dead.step] * len(rows)),
        "_reason": pa.array(list(dead.reasons), pa.string()),
        "_file": pa.array([path for path, _ in places], pa.string()),
        "_file_row": pa.array([row for _, row in places], pa.int64()),
        "_shard": pa.array([key.shard.number] * len(rows), pa.int32()),
        "_model_digest": pa.array([digest] * len(rows)),
        "_run_id": pa.array([key.shard.run_id] * len(rows)),
    }
    own = batch.take(pa.array(rows, pa.int64()))
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in own.columns
    ]
    return pa.RecordBatch.from_arrays([*columns, *why.values()], [*batch.schema.names, *why.keys()])


def are_dead_letters(batch: pa.RecordBatch) -> bool:
    """Return whether a batch was made by `to_dead_letters`."""
    return "_reason" in batch.schema.names


def locate_row(pieces: Sequence[Piece], row: int) -> tuple[str, int]:
    """Return the file, and the row in it, of a shard's row."""
    for piece in pieces:
        if row < piece.rows or piece.rows == UNKNOWN_ROWS:
            return piece.path, piece.first_row + row
        row -= piece.rows
    raise ValueError(f"Expected a row of the shard, got one {row} rows behind its end")


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
