"""Dead letters: rows that failed, with step and reason, and the Parquet files that hold them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyarrow import fs

from scoreline.lake.elements import UNKNOWN_ROWS, BatchKey, DeadRows, Piece
from scoreline.lake.storage import list_folder, move_file, resolve
from scoreline.lake.table.layout import (
    REPLACED_FOLDER,
    dead_letters_root,
    former_folder,
    partition_folder,
    run_id_in,
)

# Columns of a dead letter after the row's own: the failed step, the reason, the row's position in
# its record batch (from 0) and the model. The underscore distinguishes them from the row's columns.
LETTER_COLUMNS = ("_step", "_reason", "_row", "_model_digest")
# The same in a file: the place in the input files replaces the position.
REASON_COLUMNS = ("_step", "_reason", "_file", "_file_row", "_shard", "_model_digest", "_run_id")


def to_dead_letters(batch: pa.RecordBatch, dead: DeadRows, digest: str) -> pa.RecordBatch:
    """Return dead rows of a record batch: their own columns, then `LETTER_COLUMNS`."""
    rows = pa.array(list(dead.rows), pa.int64())
    own = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.take(rows).columns
    ]
    why = [
        pa.repeat(pa.scalar(dead.step), len(rows)),
        pa.array(list(dead.reasons), pa.string()),
        rows,
        pa.repeat(pa.scalar(digest), len(rows)),
    ]
    return pa.RecordBatch.from_arrays([*own, *why], [*batch.schema.names, *LETTER_COLUMNS])


def locate_dead_letters(key: BatchKey, letters: pa.RecordBatch) -> pa.RecordBatch:
    """Return the dead letters of a shard's batch in the stored form, with `REASON_COLUMNS`.

    `_file` and `_file_row` (from 0) name the row in the input file.
    """
    *own, steps, reasons, rows, digests = letters.columns
    count = letters.num_rows
    places = [locate_row(key.shard.pieces, key.first_row + row) for row in rows.to_pylist()]
    why = [
        steps,
        reasons,
        pa.array([path for path, _ in places], pa.string()),
        pa.array([row for _, row in places], pa.int64()),
        pa.repeat(pa.scalar(key.shard.number, pa.int32()), count),
        digests,
        pa.repeat(pa.scalar(key.shard.run_id), count),
    ]
    names = letters.schema.names[: len(own)]
    return pa.RecordBatch.from_arrays([*own, *why], [*names, *REASON_COLUMNS])


def locate_row(pieces: Sequence[Piece], row: int) -> tuple[str, int]:
    """Return the file, and the row in it, of a shard's row."""
    for piece in pieces:
        if row < piece.rows or piece.rows == UNKNOWN_ROWS:
            return piece.path, piece.first_row + row
        row -= piece.rows
    raise ValueError(f"Expected a row of the shard, got one {row} rows after its end")


def find_letter_files(output: str, partition: str, run_id: str) -> tuple[fs.FileSystem, list[str]]:
    """Return the file system, and the published files of a run's dead letters."""
    file_system, root = resolve(dead_letters_root(output))
    folders = _folders_of(root, partition)
    return file_system, [path for f in folders for path in _files_of(file_system, f, run_id)]


def put_away_letters(output: str, partition: str, run_id: str) -> None:
    """Move away the dead letters of a run whose scores are no longer in the partition."""
    file_system, root = resolve(dead_letters_root(output))
    for folder in _folders_of(root, partition):
        _move(file_system, folder, f"{root}/{REPLACED_FOLDER}", run_id)


def bring_back_letters(output: str, partition: str, run_id: str) -> None:
    """Restore the dead letters of a run whose scores are in the partition again."""
    file_system, root = resolve(dead_letters_root(output))
    folder = f"{root}/{partition_folder(partition)}"
    _move(file_system, f"{root}/{REPLACED_FOLDER}", folder, run_id)


def _folders_of(root: str, partition: str) -> list[str]:
    """Return the folders that may hold a partition's dead letters; mostly one."""
    names = dict.fromkeys((partition_folder(partition), former_folder(partition)))
    return [f"{root}/{name}" for name in names]


def _files_of(file_system: fs.FileSystem, folder: str, run_id: str) -> list[str]:
    infos = list_folder(file_system, folder) if run_id else []
    return [info.path for info in infos if run_id_in(info.base_name) == run_id]


def _move(file_system: fs.FileSystem, source: str, target: str, run_id: str) -> None:
    for path in _files_of(file_system, source, run_id):
        move_file(file_system, path, f"{target}/{path.rsplit('/', 1)[-1]}")
