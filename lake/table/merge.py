"""Add the scores of replayed dead letters to a committed partition, in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from scoreline.lake.files.partitions import parse_partition_path
from scoreline.lake.storage import move_file, resolve, table_uri
from scoreline.lake.table.actions import add_action, commit_properties
from scoreline.lake.table.history import LivePartition
from scoreline.lake.table.layout import (
    REPLACED_FOLDER,
    STAGED_FOLDER,
    dead_letters_root,
    partition_folder,
)
from scoreline.lake.table.letters import find_letter_files
from scoreline.lake.table.log import Record
from scoreline.lake.table.scores import committed_run
from scoreline.lake.table.staged_file import Staged, StagedFile

_MAX_ATTEMPTS = 50
_KEPT = (
    *("run_id", "model_digest", "signature", "tool_version", "input_fingerprint"),
    *("allow_impure", "impurity", "parent_digest"),
)


class MergeConflict(ValueError):
    """The partition was scored again meanwhile, so that these dead letters are outdated."""


class Letters(NamedTuple):
    """The dead letters of a partition's current scores: their files, and all their rows."""

    paths: tuple[str, ...]
    rows: pa.Table


def read_letters(output: str, live: LivePartition) -> Letters:
    """Return the dead letters of a partition's current scores."""
    file_system, paths = find_letter_files(output, live.partition, live.run_id)
    tables = []
    for path in paths:
        with file_system.open_input_file(path) as source:
            tables.append(pq.read_table(source))
    rows = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
    return Letters(tuple(paths), rows)


def drop_known_keys(
    output: str, live: LivePartition, keys: Sequence[str], rows: pa.Table
) -> pa.Table:
    """Return the rows whose key is not in the partition yet."""
    file_system, root = resolve(output)
    held = []
    for file in live.files:
        with file_system.open_input_file(f"{root}/{file.path}") as source:
            held.append(pq.read_table(source, columns=list(keys)))
    known = pa.concat_tables(held).group_by(list(keys)).aggregate([]) if held else None
    if known is None or not rows.num_rows:
        return rows
    numbered = rows.append_column("_position", pa.array(range(rows.num_rows)))
    aligned = known.cast(pa.schema([rows.schema.field(key) for key in keys]))
    left = numbered.select([*keys, "_position"]).join(aligned, list(keys), join_type="left anti")
    return rows.take(left["_position"].combine_chunks().sort())


def merge_scores(
    output: str,
    live: LivePartition,
    letters: Letters,
    scores: pa.Table,
    left: pa.Table,
    facts: Mapping[str, str] | None = None,
) -> int:
    """Add scores to a partition, and replace its dead letters by those that are left.

    One transaction adds the file of scores. If the process dies before it has replaced the dead
    letters, the next replay finds the transaction by its token and only replaces them: no row is
    added twice.

    Args:
      output: the table.
      live: the state of the partition; the scores become part of the same run.
      letters: the dead letters that were replayed.
      scores: rows to add, with the table's columns except partition columns.
      left: the dead letters that are left.
      facts: further facts that the transaction records.

    Returns:
      the number of rows added; 0 if an earlier replay of the same letters has added them.

    Raises:
      MergeConflict: the partition was scored again since it was read.
      OSError: a file cannot be written.
    """
    table = DeltaTable(table_uri(output))
    token = _token(letters)
    staged_left = None
    if left.num_rows:
        staged_left = _stage(dead_letters_root(output), STAGED_FOLDER, live, left)
    added = 0
    if table.transaction_version(_replay_application(live)) != token and scores.num_rows:
        staged = _stage(output, partition_folder(live.partition), live, scores)
        _commit(table, live, staged, left.num_rows, token, facts or {})
        added = staged.rows
    _exchange(output, live, letters, staged_left)
    return added


def _token(letters: Letters) -> int:
    names = sorted(path.rsplit("/", 1)[-1] for path in letters.paths)
    return int(hashlib.sha256("\n".join(names).encode()).hexdigest()[:15], 16)


def _replay_application(live: LivePartition) -> str:
    return f"scoreline-replay:{live.partition}"


def _stage(root: str, folder: str, live: LivePartition, rows: pa.Table) -> Staged:
    file_system, within = resolve(root)
    # Numbers beyond those of the shards: the name must not be one that the run has used.
    number = 90_000 + len(live.files)
    file = StagedFile(file_system, within, folder, number, live.run_id, rows.schema)
    for batch in rows.combine_chunks().to_batches():
        file.write(batch)
    return file.close()


def _commit(
    table: DeltaTable,
    live: LivePartition,
    staged: Staged,
    dead: int,
    token: int,
    facts: Mapping[str, str],
) -> None:
    values = parse_partition_path(live.partition)
    details = {name: live.commit[name] for name in _KEPT if name in live.commit}
    scored = live.rows + staged.rows
    counts = {"rows_in": scored + dead, "rows_scored": scored, "rows_dead": dead}
    details |= {**counts, "replayed": staged.rows, **facts}
    record = Record(live.partition, live.run_id, details)
    replayed = Transaction(_replay_application(live), token)
    for _ in range(_MAX_ATTEMPTS):
        if committed_run(table, live.partition) != live.run_id:
            raise MergeConflict(f"{live.partition} was scored again meanwhile. Replay again")
        try:
            table.create_write_transaction(
                [add_action(staged.path, staged.size_bytes, staged.stats, values)],
                mode="append",
                schema=table.schema(),
                partition_by=table.metadata().partition_columns,
                commit_properties=commit_properties([record], {}, replayed),
            )
        except CommitFailedError:
            table.update_incremental()
            continue
        return
    raise MergeConflict(f"other runs committed {_MAX_ATTEMPTS} times in between. Replay again")


def _exchange(
    output: str, live: LivePartition, letters: Letters, staged_left: Staged | None
) -> None:
    file_system, root = resolve(dead_letters_root(output))
    folder, replaced = f"{root}/{partition_folder(live.partition)}", f"{root}/{REPLACED_FOLDER}"
    moves = []
    if staged_left is not None:
        name = staged_left.path.rsplit("/", 1)[-1]
        moves.append((f"{root}/{staged_left.path}", f"{folder}/{name}"))
    kept = {target for _, target in moves}
    moves += [
        (path, f"{replaced}/{path.rsplit('/', 1)[-1]}")
        for path in letters.paths
        if path not in kept
    ]
    for source, target in moves:
        move_file(file_system, source, target)
