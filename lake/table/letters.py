"""Rows that failed: what, where, why, and the Parquet files that keep them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from scoreline.lake.elements import UNKNOWN_ROWS, BatchKey, Piece
from scoreline.lake.storage import resolve
from scoreline.lake.table.layout import dead_letters_root

if TYPE_CHECKING:
    from scoreline.lake.elements import DeadRows
from pyarrow import fs

from scoreline.lake.storage import list_folder, move_file
from scoreline.lake.table.layout import REPLACED_FOLDER, run_id_in, safe_folder

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


def find_letter_files(output: str, partition: str, run_id: str) -> tuple[fs.FileSystem, list[str]]:
    """Return the file system, and the files of a run's dead letters that are published."""
    file_system, root = resolve(dead_letters_root(output))
    return file_system, _files_of(file_system, f"{root}/{safe_folder(partition)}", run_id)


def put_away_letters(output: str, partition: str, run_id: str) -> None:
    """Put away the dead letters of a run whose scores the partition no longer holds."""
    file_system, root = resolve(dead_letters_root(output))
    _move(file_system, f"{root}/{safe_folder(partition)}", f"{root}/{REPLACED_FOLDER}", run_id)


def bring_back_letters(output: str, partition: str, run_id: str) -> None:
    """Bring back the dead letters of a run whose scores the partition holds again."""
    file_system, root = resolve(dead_letters_root(output))
    _move(file_system, f"{root}/{REPLACED_FOLDER}", f"{root}/{safe_folder(partition)}", run_id)


def _files_of(file_system: fs.FileSystem, folder: str, run_id: str) -> list[str]:
    infos = list_folder(file_system, folder) if run_id else []
    return [info.path for info in infos if run_id_in(info.base_name) == run_id]


def _move(file_system: fs.FileSystem, source: str, target: str, run_id: str) -> None:
    for path in _files_of(file_system, source, run_id):
        move_file(file_system, path, f"{target}/{path.rsplit('/', 1)[-1]}")
