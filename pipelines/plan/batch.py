"""What a run will do, worked out before the first row: partitions, schema, shards, problems."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from scoreline.lake.elements import UNKNOWN_ROWS, Outcome, Shard
from scoreline.lake.files.columns import top_columns
from scoreline.lake.files.data_file import Footer
from scoreline.lake.files.missing import Constant
from scoreline.lake.files.partitions import Listing, Partition, newest, run_id_of
from scoreline.lake.files.shards import plan_shards
from scoreline.lake.table.history import read_live_partitions
from scoreline.lake.table.outcomes import read_failures
from scoreline.lake.table.scores import FOREIGN_RUN, committed_runs, find_table_problems, open_table
from scoreline.models.artifact import digest_model
from scoreline.models.signature import InputColumn, Signature, TensorSpec
from scoreline.pipelines.options.batch import BatchScoringSettings
from scoreline.pipelines.options.problems import BadOptions, as_problem
from scoreline.pipelines.plan.dataset import (
    add_constant_fields,
    choose_constants,
    choose_schema,
    find_inference_problems,
    given_schema,
    read_footers,
    select_partitions,
)
from scoreline.pipelines.plan.fit import (
    choose_inputs,
    choose_outputs,
    choose_rules,
    find_key_problems,
    find_schema_problems,
    find_write_problems,
    gather_schemas,
    scores_schema,
)
from scoreline.transforms.rules import OutputRule
from scoreline.transforms.scoring import ScoreSpec

# Raised when the meaning of scores changes without a change of any option.
_RUN_FORMAT = 1
_MAX_BATCH_ROWS = 65_536
_BATCH_BYTES = 64 << 20

SignatureReader = Callable[[BatchScoringSettings, str], Signature]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What to do about the partitions that are to be scored.

    Attributes:
      score: what to score with.
      schema: columns and types of the staged files.
      shards: what to read, unless an earlier run has staged it.
      batch_rows: most rows of a record batch.
      dictionary_columns: columns to read as dictionaries.
      keys: the key columns that staged files hold: those that are no partition columns.
      integer_key: the key, when there is one only and it holds integers.
      format: the format of the files to read.
      input_schema: the types that all of them are read as; None for files that say their own.
      read_schema: the schema of some record batch before columns are picked from it.
      constants: columns to add where files lack them.
    """

    score: ScoreSpec
    schema: pa.Schema
    shards: list[Shard]
    batch_rows: int
    dictionary_columns: tuple[str, ...]
    keys: tuple[str, ...]
    integer_key: str | None
    format: str
    input_schema: pa.Schema | None
    read_schema: pa.Schema
    constants: tuple[Constant, ...]

    @property
    def rows(self) -> int:
        """Rows to score, or UNKNOWN_ROWS."""
        counts = [shard.rows for shard in self.shards]
        return UNKNOWN_ROWS if UNKNOWN_ROWS in counts else sum(counts)

    @property
    def partitions(self) -> list[str]:
        """The partitions to score, by path."""
        return sorted({shard.partition for shard in self.shards})

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read."""
        inputs = (source.column for source in self.score.inputs)
        return tuple(dict.fromkeys((*self.score.carried, *inputs)))

    @property
    def top_columns(self) -> tuple[str, ...]:
        """The columns of record batches: those that the columns to read begin in."""
        return top_columns(self.read_schema, self.columns)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run finds before its first row.

    Attributes:
      digest: the model's.
      partition_columns: of input and output, outermost first.
      selected: all partitions that are meant.
      committed: those of them whose scores the table holds already, and that are left alone.
      outdated: those of the committed that another model, input or configuration scored.
      failed: outcomes of partitions that cannot even be started.
      has_table: whether the table is there already.
      input_version: the version of the Delta table that is read; None for plain folders.
      work: what to do about the others; None when nothing is left.
    """

    digest: str
    partition_columns: tuple[str, ...]
    selected: list[Partition]
    committed: list[Partition]
    outdated: list[Partition]
    failed: list[Outcome]
    has_table: bool = False
    input_version: int | None = None
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
    listing = select_partitions(settings, problems)
    listing = listing._replace(partitions=newest(listing.partitions, settings.last))
    given = given_schema(settings, listing.format, problems) if listing.partitions else None
    digest = find_digest(settings, problems)
    try:
        table = open_table(settings.output)
    except ValueError as e:
        problems.append(str(e))
    except (OSError, DeltaError) as e:
        problems.append(as_problem(e, "--output"))
    if problems:
        raise BadOptions(problems)

    configuration = _configuration(settings, digest, given)
    plan, todo, runs, held = _sort_partitions(settings, listing, configuration, table)
    if not todo:
        return plan
    try:
        signature = read_signature(settings, digest)
    except (ValueError, OSError) as e:
        raise BadOptions([str(e)]) from e
    columns = plan.partition_columns
    inputs = choose_inputs(settings, signature, problems, listing.format)
    outputs = choose_outputs(settings, signature, columns, problems)
    rules = choose_rules(settings, outputs, problems)
    problems += find_key_problems(settings, columns)
    problems += find_write_problems(settings.output)
    try:
        input_schema = choose_schema(settings, listing, given)
    except (ValueError, OSError) as e:
        raise BadOptions([*problems, as_problem(e, "--input")]) from e
    footers = read_footers(settings, listing, todo, input_schema)
    for partition in todo:
        errors = [f.error for f in footers[partition.path] if f.error]
        if errors:
            outcome = Outcome(partition.path, runs[partition.path], "failed")
            plan.failed.append(outcome._replace(reason="; ".join(errors)))
    unreadable = {outcome.partition for outcome in plan.failed}
    readable = [p for p in todo if p.path not in unreadable]

    without_schema = find_inference_problems(listing, readable, input_schema)
    if without_schema:  # what would follow from it is no news
        raise BadOptions([*problems, *without_schema])
    held_schemas = gather_schemas(readable, footers)
    constants = choose_constants(settings, inputs, readable, held_schemas, problems)
    schemas = add_constant_fields(held_schemas, constants)
    problems += find_schema_problems(settings, signature, inputs, columns, schemas)
    if problems:
        raise BadOptions(problems)
    if not readable:
        return plan
    keys = tuple(key for key in settings.keys if key not in columns)
    carried = (*keys, *settings.keep)
    if not schemas:
        raise BadOptions(
            [
                f"--input: no rows at all: the partitions to score in {settings.input} hold no "
                "file, so nothing says what columns the output has"
            ]
        )
    read_schema = next(iter(schemas))
    schema = scores_schema(carried, outputs, read_schema)
    if table:
        problems += find_table_problems(table, schema, columns)
    if problems:
        raise BadOptions(problems)
    shards = [
        shard
        for p in readable
        for shard in plan_shards(p, footers[p.path], runs[p.path], held.get(p.path, ""))
    ]
    work = Work(
        score=make_score_spec(settings, digest, inputs, outputs, rules, carried),
        schema=schema,
        shards=shards,
        batch_rows=_batch_rows(settings, footers),
        dictionary_columns=_dictionary_columns(inputs, held_schemas),
        keys=keys,
        integer_key=_integer_key(keys, schema),
        format=listing.format,
        input_schema=input_schema,
        read_schema=read_schema,
        constants=constants,
    )
    return dataclasses.replace(plan, work=work)


def make_score_spec(
    settings: BatchScoringSettings,
    digest: str,
    inputs: Sequence[InputColumn],
    outputs: Sequence[tuple[TensorSpec, str, str]],
    rules: tuple[OutputRule, ...],
    carried: tuple[str, ...],
) -> ScoreSpec:
    """Return what workers need to score, for a batch job or a stream."""
    return ScoreSpec(
        model=os.path.abspath(settings.model),
        digest=digest,
        signature_name=settings.signature,
        inputs=tuple(inputs),
        outputs=tuple((spec.name, column, kept) for spec, column, kept in outputs),
        carried=carried,
        batch_rows=settings.batch_rows,
        batch_timeout_s=settings.batch_timeout_s,
        concurrent_calls=settings.concurrent_calls,
        op_libraries=settings.op_libraries,
        rules=rules,
        asked_outputs=None if settings.outputs is None else tuple(settings.outputs),
    )


def _sort_partitions(
    settings: BatchScoringSettings,
    listing: Listing,
    configuration: dict[str, object],
    table: DeltaTable | None,
) -> tuple[Plan, list[Partition], dict[str, str], dict[str, str]]:
    """Return a plan without work, what is to be scored, run ids, and what the table holds."""
    partitions = listing.partitions
    runs = {p.path: run_id_of(p, configuration) for p in partitions}
    held = committed_runs(table, runs) if table else {}
    wanted = _choose_by_state(settings, partitions, held, table)
    committed = [p for p in partitions if p.path in held and p.path not in wanted]
    broken = [p for p in partitions if p.problems and p.path in wanted]
    todo = [p for p in partitions if p.path in wanted and not p.problems]
    plan = Plan(
        digest=str(configuration["model_digest"]),
        input_version=listing.version,
        partition_columns=partitions[0].columns,
        selected=partitions,
        committed=committed,
        outdated=[p for p in committed if held[p.path] != runs[p.path]],
        failed=[
            Outcome(p.path, runs[p.path], "failed", reason="; ".join(p.problems)) for p in broken
        ],
        has_table=table is not None,
    )
    return plan, todo, runs, held


def _choose_by_state(
    settings: BatchScoringSettings,
    partitions: Sequence[Partition],
    held: Mapping[str, str],
    table: DeltaTable | None,
) -> set[str]:
    """Return the paths of the partitions that `--reprocess` means."""
    if settings.reprocess == "all":
        return {p.path for p in partitions}
    if settings.reprocess == "failed":
        return {p.path for p in partitions} & read_failures(settings.output).keys()
    missing = {p.path for p in partitions if held.get(p.path, FOREIGN_RUN) == FOREIGN_RUN}
    if settings.reprocess == "none" or table is None:
        return missing
    commits = {live.partition: live.commit for live in read_live_partitions(table)}
    then = {path: commit.get("input_fingerprint") for path, commit in commits.items()}
    stale = {p.path for p in partitions if then.get(p.path) not in (None, p.fingerprint)}
    return missing | stale


def find_digest(settings: BatchScoringSettings, problems: list[str]) -> str:
    """Return the model's digest; adds to the problems when there is none, or another is wanted."""
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


def _configuration(
    settings: BatchScoringSettings, digest: str, schema: pa.Schema | None
) -> dict[str, object]:
    """Return all that changes values; what only changes speed must not be in here.

    An inferred schema is not: it depends on the other partitions of the run, and a value that it
    would change does not fit the table's columns or the model's inputs.
    """
    since_first = {
        "pads": settings.pads,
        "truncate": settings.truncate,
        "allow_missing": settings.allow_missing,
        "forbid": sorted(settings.forbid),
        "ranges": settings.ranges,
        "schema": [(field.name, str(field.type)) for field in schema or ()],
    }
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


def _batch_rows(settings: BatchScoringSettings, footers: dict[str, list[Footer]]) -> int:
    """Return the rows of a record batch: a model call's, or as many as fit in a fair amount."""
    if settings.batch_rows:
        return settings.batch_rows
    groups = [
        size / rows
        for files in footers.values()
        for footer in files
        for size, rows in zip(footer.group_bytes, footer.group_rows, strict=True)
        if rows > 0
    ]
    widest = max(groups, default=1.0)
    return int(min(_MAX_BATCH_ROWS, max(1, _BATCH_BYTES // max(widest, 1.0))))


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


def _integer_key(keys: Sequence[str], schema: pa.Schema) -> str | None:
    if len(keys) == 1 and pa.types.is_integer(schema.field(keys[0]).type):
        return keys[0]
    return None
