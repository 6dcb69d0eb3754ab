"""Checked partitions → one Delta transaction that publishes them together.

A transaction costs about 10 ms of the Delta engine, whether it names one file or a thousand.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from scoreline.lake.elements import Outcome, Receipt
from scoreline.lake.files.partitions import parse_partition_path
from scoreline.lake.table.actions import add_action, commit_properties, remove_action
from scoreline.lake.table.log import Record, read_commits
from scoreline.lake.table.scores import LiveFile, live_files, runs_of

_MAX_ATTEMPTS = 100
_MAX_HISTORY = 1000


class Ready(NamedTuple):
    """A partition whose rows are staged and counted.

    Attributes:
      outcome: what is known of its outcome.
      staged: one receipt for each of its files.
      details: facts about it that the transaction records.
    """

    outcome: Outcome
    staged: Sequence[Receipt]
    details: Mapping[str, object]

    @property
    def partition(self) -> str:
        """Its hive path."""
        return self.outcome.partition

    @property
    def run_id(self) -> str:
        """The identity of the work on it."""
        return self.outcome.run_id

    @property
    def base_run_id(self) -> str:
        """The run id of the scores that it replaces; "" for none."""
        return self.staged[0].base_run_id


def publish(ready: Sequence[Ready], facts: Mapping[str, str], table: DeltaTable) -> list[Outcome]:
    """Publish partitions in one Delta transaction, and return their outcomes in the same order.

    The transaction overwrites exactly these partitions. It is made only if the table is then still
    as it was when each of them was compared with its plan. Otherwise all are compared again. Those
    that another run has published or changed are left out, and their outcomes say so. Idempotent.

    Args:
      ready: the partitions, each once.
      facts: what the transaction records about the run.
      table: the table, at any version.

    Raises:
      OSError, DeltaError: the table cannot be read or written. Nothing is published, unless the
        answer was lost.
    """
    outcomes: dict[str, Outcome] = {}
    attempts = 0
    while waiting := [one for one in ready if one.partition not in outcomes]:
        table.update_incremental()
        held = live_files(table, [one.partition for one in waiting])
        settled = _compare(waiting, held, facts, table)
        if settled:
            outcomes |= settled
            continue
        if attempts == _MAX_ATTEMPTS:
            reason = f"other runs committed {attempts} times in between. Run it again"
            outcomes |= {
                one.partition: one.outcome._replace(state="conflict", reason=reason)
                for one in waiting
            }
            continue
        # The engine removes the vectors of deleted rows with their files only if it overwrites one
        # partition. Otherwise the files are removed by name.
        together = waiting[:1] if _has_vectors(table) else waiting
        try:
            _write(together, held, facts, table)
        except CommitFailedError:
            # Another writer made this version, in these partitions or in others: look again.
            time.sleep(random.uniform(0, 0.02 * min(attempts, 10)))  # noqa: S311  no secret
            attempts += 1
            continue
        version = table.version() + 1
        for one in together:
            outcomes[one.partition] = one.outcome._replace(state="committed", version=version)
    return [outcomes[one.partition] for one in ready]


def _compare(
    waiting: Sequence[Ready],
    held: Mapping[str, Sequence[LiveFile]],
    facts: Mapping[str, str],
    table: DeltaTable,
) -> dict[str, Outcome]:
    """Return the outcomes of partitions that are published already, or changed since their plan."""
    runs = runs_of(table, {path: [file.path for file in files] for path, files in held.items()})
    outcomes = {}
    for one in waiting:
        current = runs.get(one.partition, "")
        if current == one.run_id and not _is_repair(one, held[one.partition]):
            last = _last_commit(table, one.partition)
            # Work that was repeated on purpose is done, although it needed no new version.
            ours = one.base_run_id == one.run_id or last.get("job_id") == facts["job_id"]
            state = "committed" if ours else "already_committed"
            version = last.get("version", table.version())
            outcomes[one.partition] = one.outcome._replace(state=state, version=version)
        elif current != one.base_run_id:
            reason = _describe_conflict(table, one.partition, current)
            outcomes[one.partition] = one.outcome._replace(state="conflict", reason=reason)
    return outcomes


def _is_repair(one: Ready, held: Sequence[LiveFile]) -> bool:
    """Return whether the same work was repeated on purpose, and produced different files.

    Files of the same path hold the same bytes: staging them again has repaired them already. In a
    table of an earlier layout, the folder of the new files may differ.
    """
    if one.base_run_id != one.run_id:
        return False
    return {file.path for file in held} != {receipt.path for receipt in one.staged}


def _describe_conflict(table: DeltaTable, partition: str, current: str) -> str:
    last = _last_commit(table, partition)
    writer = "another program"
    if last.get("run_id") == current:
        writer = f"run {current} with model {last['model_digest']} in version {last['version']}"
    return f"expected no change of the partition since the plan, but {writer} has changed it"


def _last_commit(table: DeltaTable, partition: str) -> dict[str, Any]:
    """Return the record of our last commit of a partition; empty if it is too old."""
    commits = read_commits(table, _MAX_HISTORY)
    return next((commit for commit in commits if commit.get("partition") == partition), {})


def _has_vectors(table: DeltaTable) -> bool:
    return "deletionVectors" in (table.protocol().reader_features or ())


def _write(
    together: Sequence[Ready],
    held: Mapping[str, Sequence[LiveFile]],
    facts: Mapping[str, str],
    table: DeltaTable,
) -> None:
    added: list[AddAction | RemoveAction] = []
    removed: list[AddAction | RemoveAction] = []
    for one in together:
        values = parse_partition_path(one.partition)
        added += [add_action(r.path, r.size_bytes, r.stats, values) for r in one.staged]
        # A file that is added again replaces its own entry.
        kept = {receipt.path for receipt in one.staged}
        removed += [
            remove_action(file.path, file.size_bytes, values)
            for file in held.get(one.partition, ())
            if file.path not in kept
        ]
    overwritten = [(column, "=", value) for column, value in values] if _has_vectors(table) else []
    table.create_write_transaction(
        added if overwritten else [*added, *removed],
        mode="overwrite" if overwritten else "append",
        schema=table.schema(),
        partition_by=[column for column, _ in values],
        partition_filters=overwritten or None,
        commit_properties=commit_properties(
            [Record(one.partition, one.run_id, one.details) for one in together], facts
        ),
    )
