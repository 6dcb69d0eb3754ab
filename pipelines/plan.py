"""What a run will do, worked out before the first row: partitions, schema, shards, problems."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import pyarrow as pa
from deltalake import DeltaTable

from models.columns import find_field
from models.signature import (
    InputColumn,
    Signature,
    TensorSpec,
)
from models.tensors import output_type
from models.versions import digest_model
from pipelines.checks import (
    choose_inputs,
    choose_outputs,
    find_schema_problems,
    find_write_problems,
    gather_schemas,
)
from pipelines.settings import BadOptions, BatchScoringSettings
from transforms.elements import Outcome, Receipt, Shard
from transforms.io.delta import (
    committed_runs,
    find_table_problems,
    open_table,
    storable_type,
)
from transforms.io.filesystems import resolve
from transforms.io.partitions import Partition, list_partitions, run_id_of
from transforms.io.receipts import split_staged
from transforms.io.shards import Footer, plan_shards, read_footers
from transforms.score import DIGEST_COLUMN, ScoreSpec

# Raised when the meaning of scores changes without a change of any option.
_RUN_FORMAT = 1
_MOST_BATCH_ROWS = 65_536
_BATCH_BYTES = 64 << 20

SignatureReader = Callable[[BatchScoringSettings, str], Signature]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What to do about the partitions that are to be scored.

    Attributes:
      score: what to score with.
      schema: columns and types of the staged files.
      shards: what to read.
      staged: shards that an earlier run staged whole, with their receipts; they are checked, and
        read only if their files are not what the receipts say.
      batch_rows: most rows of a record batch.
      dictionary_columns: columns to read as dictionaries.
      integer_key: the key, when there is one only and it holds integers.
    """

    score: ScoreSpec
    schema: pa.Schema
    shards: list[Shard]
    staged: list[tuple[Shard, list[Receipt]]]
    batch_rows: int
    dictionary_columns: tuple[str, ...]
    integer_key: str | None

    @property
    def rows(self) -> int:
        """Rows to score."""
        return sum(shard.rows for shard in self.shards)

    @property
    def all_shards(self) -> list[Shard]:
        """Shards to score, and those that are staged already."""
        return [*self.shards, *(shard for shard, _ in self.staged)]

    @property
    def partitions(self) -> list[str]:
        """The partitions to score, by path."""
        return sorted({shard.partition for shard in self.all_shards})

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read."""
        inputs = (source.column for source in self.score.inputs)
        return tuple(dict.fromkeys((*self.score.carried, *inputs)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run finds before its first row.

    Attributes:
      digest: the model's.
      partition_columns: of input and output, outermost first.
      selected: all partitions that are meant.
      committed: those of them whose scores the table holds already.
      failed: outcomes of partitions that cannot even be started.
      has_table: whether the table is there already.
      work: what to do about the others; None when nothing is left.
    """

    digest: str
    partition_columns: tuple[str, ...]
    selected: list[Partition]
    committed: list[Partition]
    failed: list[Outcome]
    has_table: bool = False
    work: Work | None = None


def make_plan(settings: BatchScoringSettings, read_signature: SignatureReader) -> Plan:
    """Work out what to do, and check all that can be checked before the first row.

    Args:
      settings: what was asked for.
      read_signature: loads the model, calls it once and returns the signature; called only when
        there is something to score.

    Raises:
      BadOptions: something is wrong with options, dataset, model or table; lists all of it.
    """
    problems: list[str] = []
    partitions = _select_partitions(settings, problems)
    digest = _digest_model(settings, problems)
    try:
        table = open_table(settings.output)
    except ValueError as e:
        problems.append(str(e))
    if problems:
        raise BadOptions(problems)

    plan, todo, runs, held = _sort_partitions(settings, partitions, digest, table)
    if not todo:
        return plan
    try:
        signature = read_signature(settings, digest)
    except (ValueError, OSError) as e:
        raise BadOptions([str(e)]) from e
    footers = _read_footers(settings, todo)
    for partition in todo:
        errors = [f.error for f in footers[partition.path] if f.error]
        if errors:
            outcome = Outcome(partition.path, runs[partition.path], "failed")
            plan.failed.append(outcome._replace(reason="; ".join(errors)))
    unreadable = {outcome.partition for outcome in plan.failed}
    readable = [p for p in todo if p.path not in unreadable]

    schemas = gather_schemas(readable, footers)
    columns = plan.partition_columns
    inputs = choose_inputs(settings, signature, problems)
    outputs = choose_outputs(settings, signature, columns, problems)
    problems += find_schema_problems(settings, signature, inputs, columns, schemas)
    problems += find_write_problems(settings.output)
    if problems:
        raise BadOptions(problems)
    if not readable:
        return plan
    schema = _file_schema(settings, outputs, schemas)
    if table:
        problems += find_table_problems(table, schema, columns)
    if problems:
        raise BadOptions(problems)
    shards, staged = split_staged(
        settings.output,
        [
            shard
            for p in readable
            for shard in plan_shards(p, footers[p.path], runs[p.path], held.get(p.path, ""))
        ],
    )
    work = Work(
        score=ScoreSpec(
            model=os.path.abspath(settings.model),
            digest=digest,
            signature_name=settings.signature,
            inputs=tuple(inputs),
            outputs=tuple((spec.name, column, kept) for spec, column, kept in outputs),
            carried=settings.carried,
            batch_rows=settings.batch_rows,
            concurrent_calls=settings.workers,
            op_libraries=settings.op_libraries,
            asked_outputs=None if settings.outputs is None else tuple(settings.outputs),
        ),
        schema=schema,
        shards=shards,
        staged=staged,
        batch_rows=_batch_rows(settings, footers),
        dictionary_columns=_dictionary_columns(inputs, schemas),
        integer_key=_integer_key(settings, schema),
    )
    return dataclasses.replace(plan, work=work)


def _sort_partitions(
    settings: BatchScoringSettings,
    partitions: list[Partition],
    digest: str,
    table: DeltaTable | None,
) -> tuple[Plan, list[Partition], dict[str, str], dict[str, str]]:
    """Return a plan without work, what is to be scored, run ids, and what the table holds."""
    configuration = _configuration(settings, digest)
    runs = {p.path: run_id_of(p, configuration) for p in partitions}
    held = committed_runs(table, runs) if table else {}
    committed = [p for p in partitions if held.get(p.path) == runs[p.path]]
    broken = [p for p in partitions if p.problems]
    todo = [p for p in partitions if held.get(p.path) != runs[p.path] and not p.problems]
    plan = Plan(
        digest=digest,
        partition_columns=partitions[0].columns,
        selected=partitions,
        committed=committed,
        failed=[
            Outcome(p.path, runs[p.path], "failed", reason="; ".join(p.problems)) for p in broken
        ],
        has_table=table is not None,
    )
    return plan, todo, runs, held


def _select_partitions(settings: BatchScoringSettings, problems: list[str]) -> list[Partition]:
    try:
        file_system, root = resolve(settings.input)
        listing = list_partitions(file_system, root, settings.partitions)
    except (ValueError, OSError) as e:
        problems.append(f"--input: {e}")
        return []
    problems += listing.problems
    found = listing.partitions
    if not listing.problems and not found and not settings.partitions:
        problems.append(
            f"--input: no partition in {settings.input}; expected folders column=value with "
            "*.parquet files"
        )
    chosen: dict[str, Partition] = {}
    for spec in settings.partitions:
        matched = [
            p for p in found if set(spec.columns) <= set(p.columns) and spec.matches(p.values)
        ]
        if not matched and not listing.problems:
            problems.append(_describe_no_match(settings, spec.text))
        chosen |= {p.path: p for p in matched}
    return sorted(chosen.values()) if settings.partitions else found


def _describe_no_match(settings: BatchScoringSettings, spec: str) -> str:
    file_system, root = resolve(settings.input)
    every = list_partitions(file_system, root, ()).partitions
    if not every:
        return f"--partitions {spec}: no partition matches; there is none in {settings.input}"
    return (
        f"--partitions {spec}: no partition matches; {settings.input} has {len(every)}, from "
        f"{every[0].path} to {every[-1].path}"
    )


def _digest_model(settings: BatchScoringSettings, problems: list[str]) -> str:
    try:
        digest = digest_model(settings.model)
    except FileNotFoundError as e:
        problems.append(str(e))
        return ""
    if settings.model_digest not in (None, digest):
        problems.append(
            f"--model_digest: expected {settings.model_digest}, got {digest} for {settings.model}. "
            "Nothing of it was run"
        )
    return digest


def _configuration(settings: BatchScoringSettings, digest: str) -> dict[str, object]:
    """Return all that changes values; what only changes speed must not be in here."""
    since_first = {"pads": settings.pads, "truncate": settings.truncate}
    return {
        "format": _RUN_FORMAT,
        "model_digest": digest,
        "signature": settings.signature,
        "keys": settings.keys,
        "keep": settings.keep,
        "columns": settings.columns,
        "fills": settings.fills,
        "outputs": settings.outputs,
        # Options that came later count only where they are used: the others keep their run ids.
        **{name: value for name, value in since_first.items() if value},
    }


def _read_footers(
    settings: BatchScoringSettings, partitions: Sequence[Partition]
) -> dict[str, list[Footer]]:
    file_system, _ = resolve(settings.input)
    footers = iter(read_footers(file_system, [f.path for p in partitions for f in p.files]))
    return {p.path: [next(footers) for _ in p.files] for p in partitions}


def _file_schema(
    settings: BatchScoringSettings,
    outputs: Sequence[tuple[TensorSpec, str, str]],
    schemas: dict[pa.Schema, list[str]],
) -> pa.Schema:
    if not schemas:
        raise BadOptions(
            [
                f"--input: no rows at all: the partitions to score in {settings.input} hold no "
                "file, so nothing says what columns the output has"
            ]
        )
    first = next(iter(schemas))
    return pa.schema(
        [
            *((name, storable_type(find_field(first, name)[0])) for name in settings.carried),
            *((column, storable_type(output_type(spec, kept))) for spec, column, kept in outputs),
            (DIGEST_COLUMN, pa.string()),
        ]
    )


def _batch_rows(settings: BatchScoringSettings, footers: dict[str, list[Footer]]) -> int:
    """Return the rows of a record batch: a model call's, or as many as fit in a fair amount."""
    if settings.batch_rows:
        return settings.batch_rows
    groups = [
        size / rows
        for files in footers.values()
        for footer in files
        for size, rows in zip(footer.group_bytes, footer.group_rows, strict=True)
        if rows
    ]
    widest = max(groups, default=1.0)
    return int(min(_MOST_BATCH_ROWS, max(1, _BATCH_BYTES // max(widest, 1.0))))


def _dictionary_columns(
    inputs: Sequence[InputColumn], schemas: dict[pa.Schema, list[str]]
) -> tuple[str, ...]:
    texts = {source.column for source in inputs if source.tensor.dtype == "string"}
    return tuple(
        sorted(
            column
            for column in texts
            if all(column in s.names and _is_text(s.field(column).type) for s in schemas)
        )
    )


def _is_text(data_type: pa.DataType) -> bool:
    return any(test(data_type) for test in (pa.types.is_string, pa.types.is_binary))


def _integer_key(settings: BatchScoringSettings, schema: pa.Schema) -> str | None:
    if len(settings.keys) == 1 and pa.types.is_integer(schema.field(settings.keys[0]).type):
        return settings.keys[0]
    return None
