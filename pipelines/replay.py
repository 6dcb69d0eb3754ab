"""Scores dead letters again and adds their scores to the table.

It replays only the dead letters of the table's current version. Idempotent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from rich.console import Console

from scoreline.lake.files.examples import RAW_COLUMN
from scoreline.lake.files.partitions import PartitionSpec, parse_partition_path
from scoreline.lake.storage import may_pass
from scoreline.lake.table.history import LivePartition, read_live_partitions
from scoreline.lake.table.letters import REASON_COLUMNS
from scoreline.lake.table.merge import (
    Letters,
    MergeConflict,
    drop_known_keys,
    merge_scores,
    read_letters,
)
from scoreline.lake.table.scores import find_table_problems
from scoreline.models.model_spec import ModelSpec
from scoreline.models.runtimes.model import Runtime
from scoreline.models.servable import Servable
from scoreline.pipelines.doing import doing
from scoreline.pipelines.exit_codes import EXIT_DEAD_LETTERS, EXIT_FAILED, EXIT_OK, EXIT_WRONG
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.options.replay import ReplaySettings, read_replay
from scoreline.pipelines.plan.fit import Fit, check_schemas, fit_model
from scoreline.pipelines.plan.model import find_model
from scoreline.pipelines.plan.purity import impurity_facts
from scoreline.pipelines.plan.table import find_table
from scoreline.pipelines.report.console import say
from scoreline.pipelines.report.documents import runtime_fields
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.reporter import make_reporter
from scoreline.transforms.isolate import EveryRowFails
from scoreline.transforms.metrics import Tally
from scoreline.transforms.purity import check_rows
from scoreline.transforms.scoring import ScoreSpec, Serving, score_batch

_BATCH_ROWS = 8192


class Replayed(NamedTuple):
    """The result for a partition's dead letters; `reason` is why the merge failed."""

    partition: str
    letters: int
    added: int
    left: int
    reason: str = ""


class Replays(NamedTuple):
    """The results of all partitions, and what called the model; None if nothing was replayed."""

    partitions: Sequence[Replayed]
    runtime: Runtime | None = None


class DeadPartition(NamedTuple):
    """A partition of the table, and its dead letters."""

    live: LivePartition
    letters: Letters


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayPlan:
    """The plan of a replay.

    Attributes:
      output: the table of scores.
      partitions: the partitions with dead letters.
      score: the model and its inputs.
      schema: columns and types of the table, without partition columns.
      keys: the columns that identify a row within its partition.
      may_write: whether scores are added, or only counted.
      facts: what a commit records of a model that is allowed to be impure.
    """

    output: str
    partitions: Sequence[DeadPartition]
    score: ScoreSpec
    schema: pa.Schema
    keys: Sequence[str]
    may_write: bool
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def replay(settings: ReplaySettings, problems: Problems) -> Replays:
    """Replay the dead letters of the selected partitions, one transaction per partition.

    Raises:
      BadOptions: options, model or table are wrong. Nothing is written.
    """
    table = find_table(settings.output, problems)
    if table is None and not problems:
        problems.add(f"--output: expected a table of scores, got nothing: {settings.output}")
    model = find_model(settings.model, problems)
    found = _find_letters(settings.output, table, settings.partitions) if table else []
    if table is None or model is None or not found:
        problems.check()
        return Replays([])
    try:
        servable = model.load(shared=False)
    except (ValueError, OSError) as e:
        problems.add(str(e))
        raise BadOptions(problems) from e
    with contextlib.closing(servable):
        plan = _plan(settings, table, model, servable, found, problems)
        plan = _check_purity(settings, plan, servable, problems)
        done = [_replay(plan, servable, partition) for partition in plan.partitions]
        return Replays(done, servable.runtime)


def _find_letters(
    output: str, table: DeltaTable, specs: Sequence[PartitionSpec]
) -> list[DeadPartition]:
    """Return the selected partitions that have dead letters."""
    return [
        DeadPartition(live, letters)
        for live in read_live_partitions(table)
        if not specs or any(s.matches(parse_partition_path(live.partition)) for s in specs)
        if (letters := read_letters(output, live)).rows.num_rows
    ]


def _plan(
    settings: ReplaySettings,
    table: DeltaTable,
    model: ModelSpec,
    servable: Servable,
    found: Sequence[DeadPartition],
    problems: Problems,
) -> ReplayPlan:
    """Check that the model's signature fits the dead letters and the table.

    Raises:
      BadOptions: they do not fit; lists all problems.
    """
    columns = table.metadata().partition_columns
    fit = fit_model(
        servable.signature,
        settings.model,
        problems,
        keys=settings.keys,
        rules=settings.rules,
        partition_columns=columns,
        has_records=all(RAW_COLUMN in letters.rows.schema.names for _, letters in found),
    )
    schema = _scores_schema(fit, found, pa.schema(table.schema().to_arrow()), problems)
    problems.add_all(fit.find_name_problems(columns))
    if schema is not None:
        problems.add_all(find_table_problems(table, schema, columns))
    if problems or schema is None:
        raise BadOptions(problems)
    return ReplayPlan(
        output=settings.output,
        partitions=found,
        score=fit.score_spec(model),
        schema=schema,
        keys=fit.keys,
        may_write=not settings.check,
    )


def _check_purity(
    settings: ReplaySettings, plan: ReplayPlan, servable: Servable, problems: Problems
) -> ReplayPlan:
    """Check that the score of each letter is its own, and return the plan with what is recorded.

    Raises:
      BadOptions: the model is impure, and there is no reason to go on.
    """
    own = _own_columns(plan.partitions[0].letters)
    purity = check_rows(own.to_batches(_BATCH_ROWS)[0], Serving(servable, plan.score))
    allowed = settings.model.allow_impure
    if purity.problem and not allowed:
        problems.add(purity.problem)
        raise BadOptions(problems)
    return dataclasses.replace(plan, facts=impurity_facts(purity, allowed))


def _scores_schema(
    fit: Fit, found: Sequence[DeadPartition], known: pa.Schema, problems: Problems
) -> pa.Schema | None:
    """Return columns and types of the scores; None, with a problem, if letters lack them."""
    schemas: dict[pa.Schema, list[str]] = {}
    for live, letters in found:
        paths = schemas.setdefault(letters.rows.schema.remove_metadata(), [])
        paths.append(f"dead letters of {live.partition}")
    copied = check_schemas(fit, schemas, problems, of_files=False, known=known)
    if copied is None:
        return None
    try:
        return fit.scores_schema(copied)
    except ValueError as e:
        problems.add(f"--outputs: {e}. Leave it out with --outputs")
        return None


def _replay(plan: ReplayPlan, servable: Servable, partition: DeadPartition) -> Replayed:
    live, letters = partition
    count = letters.rows.num_rows
    result = Replayed(live.partition, count, 0, count)
    try:
        scores, left = _score(plan, servable, letters)
        new = drop_known_keys(plan.output, live, plan.keys, scores)
        added = new.num_rows
        if plan.may_write:
            added = merge_scores(plan.output, live, letters, new, left, plan.facts)
    except (MergeConflict, EveryRowFails, OSError, DeltaError, pa.ArrowException) as e:
        return result._replace(reason=str(e))
    return result._replace(added=added, left=left.num_rows)


def _own_columns(letters: Letters) -> pa.Table:
    return letters.rows.drop_columns(list(REASON_COLUMNS)).combine_chunks()


def _score(plan: ReplayPlan, servable: Servable, letters: Letters) -> tuple[pa.Table, pa.Table]:
    """Return the scores of letters in the table's schema, and the letters that failed again."""
    own = _own_columns(letters)
    scored, at, reasons, steps = [], [], [], []
    start = 0
    for batch in own.to_batches(_BATCH_ROWS):
        part, dead = score_batch(batch, servable, plan.score, Tally())
        scored.append(part)
        for rows in dead:
            at += [start + row for row in rows.rows]
            reasons += list(rows.reasons)
            steps += [rows.step] * len(rows.rows)
        start += batch.num_rows
    whole = pa.Table.from_batches(scored).unify_dictionaries()
    columns = [
        column.cast(field.type) for column, field in zip(whole.columns, plan.schema, strict=True)
    ]
    left = letters.rows.take(pa.array(at, pa.int64()))
    changed = {
        "_step": steps,
        "_reason": reasons,
        "_model_digest": [plan.score.digest] * len(at),
    }
    for name, values in changed.items():
        left = left.set_column(
            left.schema.get_field_index(name), name, pa.array(values, pa.string())
        )
    return pa.Table.from_arrays(columns, schema=plan.schema), left


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    set_up_logs()
    flags = sys.argv[1:] if argv is None else argv
    reporter = make_reporter("replay", flags)
    problems = Problems()
    try:
        given, _ = parse_flags("replay", flags, problems)
        settings = read_replay(given, problems)
        problems.check_usage()
        with doing(f"replaying the dead letters of {settings.output}"):
            found, runtime = replay(settings, problems)
    except BadOptions as e:
        return reporter.end(e.exit_code, problems=e.problems)
    except (ValueError, OSError, DeltaError) as e:
        return reporter.end(EXIT_FAILED if may_pass(e) else EXIT_WRONG, problems=[str(e)])
    reporter.show(lambda console: _print_replayed(found, console, is_check=settings.check))
    if runtime is not None and runtime.fallback:
        reporter.show(lambda console: say(console, f"The model is called by {runtime}"))
    fields = {
        "output": settings.output,
        "is_check": settings.check,
        "runtime": runtime_fields(runtime),
        "partitions": [result._asdict() for result in found],
        "problems": [
            f"{result.partition}: NOT merged: {result.reason}" for result in found if result.reason
        ],
    }
    return reporter.end(_exit_code(found), fields)


def _exit_code(found: Sequence[Replayed]) -> int:
    if any(result.reason for result in found):
        return EXIT_FAILED
    return EXIT_DEAD_LETTERS if any(result.left for result in found) else EXIT_OK


def _print_replayed(found: Sequence[Replayed], console: Console, *, is_check: bool) -> None:
    scored = "would be scored now" if is_check else "scored now"
    for result in found:
        rest = f"NOT merged: {result.reason}" if result.reason else f"{result.left} left"
        say(
            console,
            f"{result.partition}: {result.letters} dead letters, {result.added} {scored}, {rest}",
        )
    if not found:
        console.print("There are no dead letters to replay.", highlight=False)
    elif is_check:
        console.print("--check: nothing was written.", highlight=False)
