"""Score dead letters again, after a fix or with another model, and add their scores to the table.

    scoreline replay --output … --model … --keys … [options of score_batch]

Only the dead letters of what the table holds now are replayed. Replaying twice changes nothing.
Exit codes: 0 no dead letter is left; 3 some are; 1 a partition could not be merged, or the store
did not answer; 2 options, model or table are wrong.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from rich.console import Console

from scoreline.lake.files.partitions import parse_partition_path
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
from scoreline.lake.table.scores import find_table_problems, open_table
from scoreline.models.errors import ModelError
from scoreline.models.mapping import find_mismatches
from scoreline.models.process import ModelProcess
from scoreline.models.servable import Servable, load_servable
from scoreline.pipelines.exit_codes import EXIT_DEAD_LETTERS, EXIT_FAILED, EXIT_OK, EXIT_WRONG
from scoreline.pipelines.options.batch import BatchScoringSettings, make_parser
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.plan.fit import choose_inputs, choose_outputs, choose_rules, scores_schema
from scoreline.pipelines.report.console import make_console, say
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.transforms.isolate import EveryRowFails
from scoreline.transforms.metrics import Tally
from scoreline.transforms.scoring import ScoreSpec, score_batch

_BATCH_ROWS = 8192
_USAGE = "scoreline replay --output PATH --model PATH --keys C,… [options]"


class Replayed(NamedTuple):
    """What came of a partition's dead letters; `reason` says why they could not be merged."""

    partition: str
    letters: int
    added: int
    left: int
    reason: str = ""


def replay(settings: BatchScoringSettings) -> list[Replayed]:
    """Replay the dead letters of the selected partitions, one transaction for each.

    Raises:
      BadOptions: options, model or table are wrong; nothing was written.
    """
    table = open_table(settings.output)
    if table is None:
        raise BadOptions([f"--output: expected a table of scores, got nothing: {settings.output}"])
    specs = settings.partitions
    found = [
        (live, letters)
        for live in read_live_partitions(table)
        if not specs or any(s.matches(parse_partition_path(live.partition)) for s in specs)
        if (letters := read_letters(settings.output, live)).rows.num_rows
    ]
    if not found:
        return []
    prepared = _prepare(settings, table, found)
    with contextlib.closing(prepared[1]):
        return [_replay(settings, prepared, live, letters) for live, letters in found]


def _prepare(
    settings: BatchScoringSettings,
    table: DeltaTable,
    found: Sequence[tuple[LivePartition, Letters]],
) -> tuple[ScoreSpec, Servable | ModelProcess, pa.Schema]:
    """Load the model and hold its signature against letters and table."""
    problems: list[str] = []
    try:
        servable = _load(settings)
    except (ModelError, FileNotFoundError) as e:
        raise BadOptions([str(e)]) from e
    columns = table.metadata().partition_columns
    inputs = choose_inputs(settings, servable.signature, problems)
    outputs = choose_outputs(settings, servable.signature, columns, problems)
    rules = choose_rules(settings, outputs, problems)
    for live, letters in found:
        told = find_mismatches(servable.signature, inputs, letters.rows.schema).values()
        problems += [f"{problem} (in dead letters of {live.partition})." for problem in told]
        missing = [c for c in settings.carried if c not in letters.rows.schema.names]
        problems += [
            f"--keys and --keep: dead letters of {live.partition} have no column '{column}'"
            for column in missing
            if column not in columns
        ]
    if problems:
        raise BadOptions(problems)
    carried = tuple(c for c in settings.carried if c not in columns)
    schema = scores_schema(carried, outputs, found[0][1].rows.schema)
    problems += find_table_problems(table, schema, columns)
    if problems:
        raise BadOptions(problems)
    spec = ScoreSpec(
        model=settings.model,
        digest=servable.digest,
        signature_name=settings.signature,
        inputs=tuple(inputs),
        outputs=tuple((s.name, column, kept) for s, column, kept in outputs),
        carried=carried,
        rules=rules,
    )
    return spec, servable, schema


def _load(settings: BatchScoringSettings) -> Servable | ModelProcess:
    options: dict[str, Any] = {
        "digest": settings.model_digest,
        "batch_rows": settings.batch_rows,
        "op_libraries": settings.op_libraries,
        "outputs": None if settings.outputs is None else tuple(settings.outputs),
        "ragged": settings.ragged,
    }
    if settings.batch_timeout_s is None:
        return load_servable(settings.model, settings.signature, **options)
    return ModelProcess(
        settings.model, settings.signature, batch_timeout_s=settings.batch_timeout_s, **options
    )


def _replay(
    settings: BatchScoringSettings,
    prepared: tuple[ScoreSpec, Servable | ModelProcess, pa.Schema],
    live: LivePartition,
    letters: Letters,
) -> Replayed:
    spec, servable, schema = prepared
    count = letters.rows.num_rows
    result = Replayed(live.partition, count, 0, count)
    try:
        scores, left = _score(spec, servable, schema, letters)
        keys = [key for key in settings.keys if key in schema.names]
        new = drop_known_keys(settings.output, live, keys, scores)
        added = merge_scores(settings.output, live, letters, new, left)
    except (MergeConflict, EveryRowFails, OSError, DeltaError, pa.ArrowException) as e:
        return result._replace(reason=str(e))
    return result._replace(added=added, left=left.num_rows)


def _score(
    spec: ScoreSpec, servable: Servable | ModelProcess, schema: pa.Schema, letters: Letters
) -> tuple[pa.Table, pa.Table]:
    """Return the scores of letters in the table's schema, and the letters that failed again."""
    own = letters.rows.drop_columns(list(REASON_COLUMNS)).combine_chunks()
    scored, at, reasons, steps = [], [], [], []
    start = 0
    for batch in own.to_batches(_BATCH_ROWS):
        part, dead = score_batch(batch, servable, spec, Tally())
        scored.append(part)
        for rows in dead:
            at += [start + row for row in rows.rows]
            reasons += list(rows.reasons)
            steps += [rows.step] * len(rows.rows)
        start += batch.num_rows
    whole = pa.Table.from_batches(scored).unify_dictionaries()
    columns = [column.cast(field.type) for column, field in zip(whole.columns, schema, strict=True)]
    left = letters.rows.take(pa.array(at, pa.int64()))
    told = {"_step": steps, "_reason": reasons, "_model_digest": [spec.digest] * len(at)}
    for name, values in told.items():
        left = left.set_column(
            left.schema.get_field_index(name), name, pa.array(values, pa.string())
        )
    return pa.Table.from_arrays(columns, schema=schema), left


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    set_up_logs()
    flags = sys.argv[1:] if argv is None else list(argv)
    parser = make_parser(_USAGE, __doc__)
    parser.parse_args(flags)
    console, errors = make_console(), make_console(stderr=True)
    try:
        settings = BatchScoringSettings.from_options(
            PipelineOptions(flags), needs=["--model", "--output", "--keys"]
        )
        found = replay(settings)
    except BadOptions as e:
        for problem in e.problems:
            say(errors, problem)
        return e.exit_code
    except (ValueError, OSError, DeltaError) as e:
        say(errors, str(e))
        return EXIT_FAILED if may_pass(e) else EXIT_WRONG
    return _report(found, console)


def _report(found: Sequence[Replayed], console: Console) -> int:
    for result in found:
        told = f"NOT merged: {result.reason}" if result.reason else f"{result.left} left"
        letters = f"{result.letters} dead letters, {result.added} scored now"
        say(console, f"{result.partition}: {letters}, {told}")
    if not found:
        console.print("There are no dead letters to replay.", highlight=False)
    if any(result.reason for result in found):
        return EXIT_FAILED
    return EXIT_DEAD_LETTERS if any(result.left for result in found) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
