"""Publish partitions in a Delta table: each is there whole or not at all.

Protocol (https://github.com/delta-io/delta/blob/master/PROTOCOL.md): a version of the table is a
file in `_delta_log` that appears whole or not at all. Workers write data files that no version
names. A transaction names the new files of its partitions and removes their old ones. A reader sees
either the old state or the new one. Partitions that are ready together share a transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from scoreline.lake.elements import Outcome, Receipt
from scoreline.lake.kill_points import reach
from scoreline.lake.storage import move_file, resolve, table_uri
from scoreline.lake.table.duplicates import count_duplicate_keys
from scoreline.lake.table.layout import dead_letters_root, partition_folder
from scoreline.lake.table.letters import put_away_letters
from scoreline.lake.table.publish import Ready, publish
from scoreline.lake.table.receipts import remove_receipts

_EXPECTED = (OSError, DeltaError, pa.ArrowException)


class CommitSpec(NamedTuple):
    """Parameters of commits, the same for all partitions of a run.

    Attributes:
      output: the table's path or URI.
      partition_columns: the table's partition columns, for its creation.
      keys: the key columns.
      metadata: facts about the run that the transaction records, as strings: model digest, …
      fingerprints: the input fingerprint of each partition, as far as it is known.
      max_dead_letter_ratio: maximum share of dead letters among a partition's rows.
      stage_times: the folder that committers record stage times in; "" for none.
      null_stage: the stage that does nothing in this run, so that nothing is committed; "" for
        none.
    """

    output: str
    partition_columns: Sequence[str]
    keys: Sequence[str]
    metadata: Mapping[str, str]
    fingerprints: Mapping[str, str]
    max_dead_letter_ratio: float
    stage_times: str = ""
    null_stage: str = ""


def commit_partitions(
    partitions: Sequence[Sequence[Receipt]], spec: CommitSpec, table: DeltaTable | None = None
) -> list[Outcome]:
    """Publish partitions from the receipts of all their shards, in one Delta transaction.

    The transaction overwrites exactly these partitions. Conditions for each: every shard has a
    receipt, rows in = rows scored + rows dead, and the partition has not changed since the run was
    planned. One that does not meet them is left out. If the transaction fails, each partition has
    its own. The commit is idempotent: repeating it for the same run changes nothing. A problem of a
    partition raises no error: its outcome carries the reason.

    Args:
      partitions: all receipts of each partition, in any order; a shard may have several.
      spec: the parameters of the commit.
      table: the table, at any version; opening it again would read its log from the start.
    """
    outcomes: dict[str, Outcome] = {}
    ready = []
    for receipts in partitions:
        checked = _check(receipts, spec)
        if isinstance(checked, Outcome):
            outcomes[checked.partition] = checked
        else:
            ready.append(checked)
    outcomes |= _publish(ready, spec, table)
    for one in ready:
        outcomes[one.partition] = _clear(outcomes[one.partition], one.base_run_id, spec)
    return [outcomes[receipts[0].partition] for receipts in partitions]


def _check(receipts: Sequence[Receipt], spec: CommitSpec) -> Ready | Outcome:
    """Return a partition that may be published, or the outcome of one that may not."""
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
    if spec.null_stage and not problem:
        problem = f"nothing is committed, since this run leaves out the stage {spec.null_stage}"
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
    except _EXPECTED as e:
        return _fail(outcome, e)
    outcome = outcome._replace(duplicate_keys=duplicates)
    return Ready(outcome, staged, _describe(outcome, spec))


def _publish(
    ready: Sequence[Ready], spec: CommitSpec, table: DeltaTable | None
) -> dict[str, Outcome]:
    if not ready:
        return {}
    with contextlib.suppress(*_EXPECTED):
        table = table or DeltaTable(table_uri(spec.output))
        return {outcome.partition: outcome for outcome in publish(ready, spec.metadata, table)}
    # The cause may be one of them, or only the answer was lost: then each finds itself published.
    outcomes = {}
    for one in ready:
        try:
            table = table or DeltaTable(table_uri(spec.output))
            (outcomes[one.partition],) = publish([one], spec.metadata, table)
        except _EXPECTED as e:
            outcomes[one.partition] = _fail(one.outcome, e)
    return outcomes


def _clear(outcome: Outcome, base_run_id: str, spec: CommitSpec) -> Outcome:
    """Remove what a published partition no longer needs, and the letters of one that lost."""
    try:
        if outcome.state == "committed":
            reach("committed")
            if base_run_id != outcome.run_id:
                put_away_letters(spec.output, outcome.partition, base_run_id)
            reach("cleared")
            remove_receipts(spec.output, outcome.run_id)
        elif outcome.state == "conflict":
            put_away_letters(spec.output, outcome.partition, outcome.run_id)
    except _EXPECTED as e:
        return _fail(outcome, e)
    return outcome


def _fail(outcome: Outcome, error: Exception) -> Outcome:
    reason = f"cannot commit: {type(error).__name__}: {error}"
    return outcome._replace(state="failed", reason=reason)


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


def _describe(outcome: Outcome, spec: CommitSpec) -> dict[str, object]:
    """Return what the transaction records of a partition."""
    return {
        "run_id": outcome.run_id,
        "input_fingerprint": spec.fingerprints.get(outcome.partition, ""),
        "rows_in": outcome.rows_in,
        "rows_scored": outcome.rows_scored,
        "rows_dead": outcome.rows_dead,
        "duplicate_keys": outcome.duplicate_keys,
    }


def _publish_dead_letters(output: str, receipt: Receipt, dead: Sequence[Receipt]) -> None:
    """Move staged dead letters into their partition's folder. Idempotent."""
    file_system, root = resolve(dead_letters_root(output))
    folder = f"{root}/{partition_folder(receipt.partition)}"
    for staged in dead:
        source = f"{root}/{staged.path}"
        move_file(file_system, source, f"{folder}/{source.rsplit('/', 1)[-1]}")
