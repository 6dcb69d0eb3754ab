"""Writes the scores, or the dead letters, of one shard to a staged file with a receipt."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from scoreline.lake.elements import BatchKey, Receipt, Shard
from scoreline.lake.storage import resolve
from scoreline.lake.table.layout import STAGED_FOLDER, dead_letters_root, partition_folder
from scoreline.lake.table.staged_file import StagedFile


class StageSpec(NamedTuple):
    """The table of staged scores, and the content of their files.

    Attributes:
      output: the table's root.
      schema: columns and types of the files.
      statistics: columns that Delta Lake may skip files by.
      integer_key: the key column, if there is only one and it has integers.
      writes_nothing: whether rows are counted, and not written.
    """

    output: str
    schema: pa.Schema
    statistics: tuple[str, ...]
    integer_key: str | None
    writes_nothing: bool = False


class ShardWriter(Protocol):
    """Writes the rows of one shard to one file."""

    def write(self, key: BatchKey, batch: pa.RecordBatch) -> None:
        """Add the rows of the next batch."""

    def close(self) -> Receipt:
        """Finish the file and return its receipt."""

    def abandon(self) -> None:
        """Leave nothing behind."""


def open_scores(spec: StageSpec, shard: Shard, _: pa.RecordBatch) -> ShardWriter:
    """Return a writer of a shard's scores in the folder of its partition.

    Raises:
      OSError: the file cannot be made.
    """
    if spec.writes_nothing:
        return CountingWriter(shard)
    file_system, root = resolve(spec.output)
    folder = partition_folder(shard.partition)
    file = StagedFile(
        file_system,
        root,
        folder,
        shard.number,
        shard.run_id,
        spec.schema,
        statistics=spec.statistics,
    )
    return ScoresWriter(file, shard, spec.integer_key)


def open_letters(output: str, shard: Shard, first: pa.RecordBatch) -> LettersWriter:
    """Return a writer of a shard's dead letters, with the columns of the first ones.

    Raises:
      OSError: the file cannot be made.
    """
    file_system, root = resolve(dead_letters_root(output))
    file = StagedFile(file_system, root, STAGED_FOLDER, shard.number, shard.run_id, first.schema)
    return LettersWriter(file, shard)


class CountingWriter:
    """Counts the rows of one shard, whose receipt then names no file."""

    def __init__(self, shard: Shard) -> None:
        """Count from zero."""
        self._shard, self._rows_in, self._rows = shard, 0, 0

    def write(self, key: BatchKey, batch: pa.RecordBatch) -> None:
        """Count the rows of a batch."""
        self._rows_in += key.rows
        self._rows += batch.num_rows

    def close(self) -> Receipt:
        """Return the shard's receipt."""
        return Receipt.of(self._shard, rows_in=self._rows_in, rows_scored=self._rows)

    def abandon(self) -> None:
        """Do nothing: there is no file."""


class LettersWriter:
    """Stages the dead letters of one shard."""

    def __init__(self, file: StagedFile, shard: Shard) -> None:
        """Write to a file."""
        self._file, self._shard = file, shard

    def write(self, _: BatchKey, letters: pa.RecordBatch) -> None:
        """Add letters, as `locate_dead_letters` makes them."""
        self._file.write(letters)

    def close(self) -> Receipt:
        """Finish the file and return its receipt."""
        staged = self._file.close()
        return Receipt.of(
            self._shard,
            path=staged.path,
            size_bytes=staged.size_bytes,
            checksum=staged.checksum,
            rows_dead=staged.rows,
        )

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.abandon()


class ScoresWriter:
    """Stages the scored batches of one shard, and checks whether its key increases."""

    def __init__(self, file: StagedFile, shard: Shard, integer_key: str | None) -> None:
        """Write to a file; `integer_key` names the key column if it has integers."""
        self._file, self._shard, self._key = file, shard, integer_key
        self._next_batch = 0
        self._rows_in = 0
        self._keys: list[int] | None = [] if integer_key else None

    def write(self, key: BatchKey, batch: pa.RecordBatch) -> None:
        """Add the next batch.

        Raises:
          ValueError: it is not the next batch. A runner that reorders or splits a shard's batches
            would lose rows.
        """
        if key.number != self._next_batch:
            raise ValueError(
                f"Expected batch {self._next_batch} of shard {self._shard.number} of "
                f"{self._shard.partition}, got batch {key.number}. The runner must fuse the steps "
                "ReadRecordBatches, Score and StageScores"
            )
        self._next_batch += 1
        self._rows_in += key.rows
        if batch.num_rows:
            self._watch_keys(batch)
            self._file.write(batch)

    def _watch_keys(self, batch: pa.RecordBatch) -> None:
        if self._keys is None:
            return
        column = batch.column(self._key)
        if column.null_count:
            self._keys = None
            return
        keys = column.to_numpy()
        follows = not self._keys or int(keys[0]) > self._keys[1]
        if not follows or not np.all(keys[1:] > keys[:-1]):
            self._keys = None
            return
        self._keys = [self._keys[0] if self._keys else int(keys[0]), int(keys[-1])]

    def close(self) -> Receipt:
        """Finish the file and return the shard's receipt."""
        staged = self._file.close()
        first, last = self._keys or (0, 0)
        return Receipt.of(
            self._shard,
            path=staged.path,
            size_bytes=staged.size_bytes,
            checksum=staged.checksum,
            stats=staged.stats,
            rows_in=self._rows_in,
            rows_scored=staged.rows,
            keys_increase=self._keys is not None,
            first_key=first,
            last_key=last,
        )

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.abandon()
