"""Publish partitions in a Delta table: one transaction for each, all of it or nothing.

Protocol (https://github.com/delta-io/delta/blob/master/PROTOCOL.md): a version of the table is a
file in `_delta_log` that appears whole or not at all. Workers write data files that no version
names. The transaction of a partition names its new files and removes its old ones. A reader sees
either the old state or the new one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from scoreline.lake.elements import Outcome, Receipt
from scoreline.lake.files.partitions import parse_partition_path
from scoreline.lake.kill_points import reach
from scoreline.lake.storage import move_file, resolve, table_uri
from scoreline.lake.table.duplicates import count_duplicate_keys
from scoreline.lake.table.layout import dead_letters_root, partition_folder
from scoreline.lake.table.letters import put_away_letters
from scoreline.lake.table.receipts import remove_receipts
from scoreline.lake.table.scores import add_action, commit_properties, committed_run

_MAX_ATTEMPTS = 100
_MAX_HISTORY = 1000


class CommitSpec(NamedTuple):
    """Parameters of commits, the same for all partitions of a run.

    Attributes:
      output: the table's path or URI.
      partition_columns: the table's partition columns, for its creation.
      keys: the key columns.
      metadata: facts about the run that the transaction records, as strings: model digest, …
      fingerprints: the input fingerprint of each partition, as far as it is known.
      max_dead_letter_ratio: maximum share of dead letters among a partition's rows.
    """

    output: str
    partition_columns: Sequence[str]
    keys: Sequence[str]
    metadata: Mapping[str, str]
    fingerprints: Mapping[str, str]
    max_dead_letter_ratio: float


class CommitConflict(ValueError):
    """Another run has committed the partition since this run was planned."""


def commit_partition(
    receipts: Sequence[Receipt], spec: CommitSpec, table: DeltaTable | None = None
) -> Outcome:
    """Publish a partition from the receipts of all its shards, in one Delta transaction.

    The transaction overwrites exactly this partition. Conditions: every shard has a receipt, rows
    in = rows scored + rows dead, and the partition has not changed since the run was planned. The
    commit is idempotent: repeating it for the same run changes nothing. A problem of one partition
    raises no error: the outcome carries the reason.

    Args:
      receipts: all receipts of one partition, in any order; a shard may have several.
      spec: the parameters of the commit.
      table: the table, at any version; opening it again would read its log from the start.
    """
    first = receipts[0]
    rows_in, staged, dead = _sum_up(receipts)
    outcome = Outcome(
        first.partition,
        first.run_id,
        "failed",
        rows_in=rows_in,
        rows_scored=sum(r.rows_scored for r in staged),
        rows_dead=sum(r.rows_dead for r in dead),
    )
    problem = _find_receipt_problem(receipts, staged, outcome)
    if problem:
        return outcome._replace(reason=problem)
    try:
        if rows_in and outcome.rows_dead / rows_in > spec.max_dead_letter_ratio:
            return outcome._replace(reason=_describe_dead(outcome, dead[0], spec))
        reach("gathered")
        duplicates = count_duplicate_keys(spec.output, spec.keys, staged)
        reach("checked")
        _publish_dead_letters(spec.output, first, dead)
        reach("letters_published")
        outcome = outcome._replace(duplicate_keys=duplicates)
        outcome = _commit(outcome, first, staged, spec, table)
        if outcome.state == "committed":
            reach("committed")
            if first.base_run_id != first.run_id:
                put_away_letters(spec.output, first.partition, first.base_run_id)
            reach("cleared")
            remove_receipts(spec.output, first.run_id)
    except CommitConflict as e:
        put_away_letters(spec.output, first.partition, first.run_id)
        return outcome._replace(state="conflict", reason=str(e))
    except (OSError, DeltaError, pa.ArrowException) as e:
        return outcome._replace(reason=f"cannot commit: {type(e).__name__}: {e}")
    return outcome


def _sum_up(receipts: Sequence[Receipt]) -> tuple[int, list[Receipt], list[Receipt]]:
    """Return rows in, and one receipt per shard of scores and of dead letters.

    A runner may deliver a shard more than once (at least once); any of its receipts will do.
    """
    scores = {r.shard: r for r in sorted(receipts) if r.rows_in or not r.rows_dead}
    dead = {r.shard: r for r in sorted(receipts) if r.rows_dead}
    return sum(r.rows_in for r in scores.values()), list(scores.values()), list(dead.values())


def _find_receipt_problem(
    receipts: Sequence[Receipt],
    staged: Sequence[Receipt],
    outcome: Outcome,
) -> str:
    errors = sorted({r.error for r in receipts if r.error})
    if errors:
        return "; ".join(errors)
    missing = sorted(set(range(receipts[0].shards)) - {r.shard for r in staged})
    if missing:
        return f"expected {receipts[0].shards} staged shards, got none for {missing}"
    rows_in, scored, dead = outcome.rows_in, outcome.rows_scored, outcome.rows_dead
    if rows_in != scored + dead:
        return f"expected rows in = scored + dead, got {rows_in} = {scored} + {dead}"
    return ""


def _describe_dead(outcome: Outcome, receipt: Receipt, spec: CommitSpec) -> str:
    file_system, root = resolve(dead_letters_root(spec.output))
    with file_system.open_input_file(f"{root}/{receipt.path}") as source:
        reason = pq.read_table(source, columns=["_reason"])["_reason"][0].as_py()
    return (
        f"{outcome.rows_dead} of {outcome.rows_in} rows are dead letters, more than "
        f"--max_dead_letter_ratio {spec.max_dead_letter_ratio} allows; for example: {reason}; "
        f"see {root}/{receipt.path}"
    )


def _commit(
    outcome: Outcome,
    receipt: Receipt,
    staged: Sequence[Receipt],
    spec: CommitSpec,
    table: DeltaTable | None,
) -> Outcome:
    partition, run_id = receipt.partition, receipt.run_id
    values = parse_partition_path(partition)
    table = table or DeltaTable(table_uri(spec.output))
    for attempt in range(_MAX_ATTEMPTS):
        # The table may be stale: a newer commit makes the transaction fail.
        current = committed_run(table, partition)
        if current == run_id and not _is_repair(table, receipt, staged):
            last = _last_commit(table, partition)
            # Work that was repeated on purpose is done, although it needed no new version.
            ours = receipt.base_run_id == run_id
            ours = ours or last.get("scoreline.job_id") == spec.metadata["job_id"]
            state = "committed" if ours else "already_committed"
            return outcome._replace(state=state, version=last.get("version", table.version()))
        if current != receipt.base_run_id:
            raise CommitConflict(_describe_conflict(table, partition, current))
        try:
            table.create_write_transaction(
                [add_action(r.path, r.size_bytes, r.stats, values) for r in staged],
                mode="overwrite",
                schema=table.schema(),
                partition_by=[column for column, _ in values],
                partition_filters=[(column, "=", value) for column, value in values],
                commit_properties=_commit_properties(outcome, receipt, spec),
            )
        except CommitFailedError:
            # Another writer committed first, to this partition or another one: look again.
            time.sleep(random.uniform(0, 0.02 * min(attempt, 10)))  # noqa: S311  no secret
            table.update_incremental()
            continue
        table.update_incremental()
        return outcome._replace(state="committed", version=table.version())
    raise CommitConflict(f"other runs committed {_MAX_ATTEMPTS} times in between. Run it again")


def _is_repair(table: DeltaTable, receipt: Receipt, staged: Sequence[Receipt]) -> bool:
    """Return whether the same work was repeated on purpose, and produced different files.

    Files of the same path hold the same bytes: staging them again has repaired them already. In a
    table of an earlier layout, the folder of the new files may differ.
    """
    if receipt.base_run_id != receipt.run_id:
        return False
    live = table.file_uris(
        file_pruning_predicate=[
            (column, "=", value) for column, value in parse_partition_path(receipt.partition)
        ]
    )
    depth = receipt.partition.count("/") + 2
    return {"/".join(uri.split("/")[-depth:]) for uri in live} != {r.path for r in staged}


def _describe_conflict(table: DeltaTable, partition: str, current: str) -> str:
    last = _last_commit(table, partition)
    writer = "another program"
    if last.get("scoreline.run_id") == current:
        writer = (
            f"run {current} with model {last['scoreline.model_digest']} "
            f"in version {last['version']}"
        )
    return f"expected no change of the partition since the plan, but {writer} has changed it"


def _last_commit(table: DeltaTable, partition: str) -> dict[str, Any]:
    """Return the history entry of our last commit of a partition; empty if it is too old."""
    commits = table.history(_MAX_HISTORY)
    return next((c for c in commits if c.get("scoreline.partition") == partition), {})


def _commit_properties(outcome: Outcome, receipt: Receipt, spec: CommitSpec) -> CommitProperties:
    details = {
        **spec.metadata,
        "run_id": receipt.run_id,
        "input_fingerprint": spec.fingerprints.get(receipt.partition, ""),
        "rows_in": outcome.rows_in,
        "rows_scored": outcome.rows_scored,
        "rows_dead": outcome.rows_dead,
        "duplicate_keys": outcome.duplicate_keys,
    }
    return commit_properties(receipt.partition, receipt.run_id, details)


def _publish_dead_letters(output: str, receipt: Receipt, dead: Sequence[Receipt]) -> None:
    """Move staged dead letters into their partition's folder. Idempotent."""
    file_system, root = resolve(dead_letters_root(output))
    folder = f"{root}/{partition_folder(receipt.partition)}"
    for staged in dead:
        source = f"{root}/{staged.path}"
        move_file(file_system, source, f"{folder}/{source.rsplit('/', 1)[-1]}")
