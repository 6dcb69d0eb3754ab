"""Signature, schemas and output held against each other, before the first row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from scoreline.lake.files.data_file import Footer
from scoreline.lake.files.examples import RAW_COLUMN
from scoreline.lake.files.partitions import Partition
from scoreline.lake.table.scores import storable_type
from scoreline.models.fit import OutputColumn, fit_signature
from scoreline.models.mapping import find_field, find_mismatches
from scoreline.models.signature import InputColumn, Signature, TensorSpec
from scoreline.models.tensors import output_type
from scoreline.pipelines.options.batch import BatchScoringSettings
from scoreline.transforms.rules import OutputRule
from scoreline.transforms.scoring import DIGEST_COLUMN

_MAX_NAMED = 5


def choose_inputs(
    settings: BatchScoringSettings,
    signature: Signature,
    problems: list[str],
    data_format: str = "parquet",
) -> list[InputColumn]:
    """Return where each input gets its values; adds what is wrong with that to the problems."""
    records = RAW_COLUMN if data_format == "tfrecord" else ""
    fit = fit_signature(signature, settings.fit_options, record_column=records)
    problems += fit.problems
    return list(fit.inputs)


def choose_outputs(
    settings: BatchScoringSettings,
    signature: Signature,
    partition_columns: Sequence[str],
    problems: list[str],
) -> list[OutputColumn]:
    """Return the outputs to store; adds what is wrong with them to the problems."""
    taken = {*settings.carried, DIGEST_COLUMN}
    fit = fit_signature(signature, settings.fit_options, taken=taken)
    problems += [problem for problem in fit.problems if problem not in problems]
    wanted = {output.column for output in fit.outputs}
    for column in partition_columns:
        if column in {*settings.keep, DIGEST_COLUMN} or column in wanted:
            problems.append(
                f"output column '{column}' is a partition column, which the output has anyway. "
                "Leave it out of --keep, or rename the output with --outputs T=COLUMN"
            )
    return list(fit.outputs)


def choose_rules(
    settings: BatchScoringSettings,
    outputs: Sequence[tuple[TensorSpec, str, str]],
    problems: list[str],
) -> tuple[OutputRule, ...]:
    """Return what the numbers of outputs must be; adds what is wrong to the problems."""
    specs = {spec.name: spec for spec, _, _ in outputs}
    for name in settings.ranges:
        if name not in specs or specs[name].dtype in ("string", "bool"):
            what = specs[name].dtype if name in specs else "no output that is stored"
            problems.append(f"--range {name}: expected an output of numbers, got {what}")
    rules = []
    for name, spec in specs.items():
        low, high = settings.ranges.get(name, (float("-inf"), float("inf")))
        is_float = "float" in spec.dtype
        nan, inf = (is_float and kind in settings.forbid for kind in ("nan", "inf"))
        if nan or inf or name in settings.ranges:
            rules.append(OutputRule(name, nan, inf, low, high))
    return tuple(rules)


def scores_schema(
    carried: Sequence[str], outputs: Sequence[tuple[TensorSpec, str, str]], schema: pa.Schema
) -> pa.Schema:
    """Return columns and types of the table, but for partition columns.

    Args:
      carried: the columns that are copied.
      outputs: outputs with their columns, as `choose_outputs` gives them.
      schema: where the carried columns have their types from.

    Raises:
      ValueError: Delta Lake has no such type.
    """
    return pa.schema(
        [
            *((name, storable_type(find_field(schema, name)[0])) for name in carried),
            *((column, storable_type(output_type(spec, kept))) for spec, column, kept in outputs),
            (DIGEST_COLUMN, pa.string()),
        ]
    )


def gather_schemas(
    partitions: Sequence[Partition], footers: dict[str, list[Footer]]
) -> dict[pa.Schema, list[str]]:
    """Return each schema there is, and the partitions whose files have it."""
    schemas: dict[pa.Schema, list[str]] = {}
    for partition in partitions:
        for footer in footers[partition.path]:
            if footer.schema is not None:
                paths = schemas.setdefault(footer.schema.remove_metadata(), [])
                if partition.path not in paths[-1:]:
                    paths.append(partition.path)
    return schemas


def find_key_problems(
    settings: BatchScoringSettings, partition_columns: Sequence[str]
) -> list[str]:
    """Return why keys do not tell the rows of a partition apart; nothing when they may."""
    if set(settings.keys) - set(partition_columns):
        return []
    return [
        f"--keys: expected a column of the files, got only partition columns "
        f"({', '.join(settings.keys)}), which are the same for all rows of a partition. Add a "
        "column that tells rows apart"
    ]


def find_schema_problems(
    settings: BatchScoringSettings,
    signature: Signature,
    inputs: Sequence[InputColumn],
    partition_columns: Sequence[str],
    schemas: dict[pa.Schema, list[str]],
) -> list[str]:
    """Return what keeps partitions from feeding the signature or their columns from being copied.

    Each sentence names all partitions it is about.
    """
    where: dict[str, list[str]] = {}
    stored: dict[str, dict[str, list[str]]] = {}
    about: dict[str, str] = {}
    for schema, paths in schemas.items():
        checked = [*inputs, *_parsed_features(signature, inputs, schema)]
        columns_of = {source.tensor.name: source.column for source in checked}
        for name, problem in find_mismatches(signature, checked, schema).items():
            where.setdefault(problem, []).extend(paths)
            about[problem] = columns_of[name]
        for flag, columns in (("--keys", settings.keys), ("--keep", settings.keep)):
            for column in columns:
                if column in partition_columns:  # the output has it anyway
                    continue
                at = find_field(schema, column)
                if len(at) != 1:
                    count = "no column" if not at else f"{len(at)} columns"
                    note = f"{flag}: the table has {count} '{column}'"
                    where.setdefault(note, []).extend(paths)
                    about[note] = column
                    continue
                try:
                    kind = str(storable_type(at[0]))
                    stored.setdefault(column, {}).setdefault(kind, []).extend(paths)
                except ValueError as e:
                    where.setdefault(f"{flag}: column '{column}': {e}", []).extend(paths)
    total = len({path for paths in schemas.values() for path in paths})
    problems = [
        f"{problem} (in {_name(paths, total)}).{_advise_missing(about.get(problem), schemas)}"
        for problem, paths in where.items()
    ]
    for column, kinds in stored.items():
        if len(kinds) > 1:
            places = " and ".join(f"{kind} in {_name(p, 0)}" for kind, p in kinds.items())
            problems.append(f"column '{column}' cannot be copied to one table: it is {places}.")
    return problems


def _parsed_features(
    signature: Signature, inputs: Sequence[InputColumn], schema: pa.Schema
) -> list[InputColumn]:
    """Return the features that records must have which go to the model as they are."""
    if [source.column for source in inputs] != [RAW_COLUMN]:
        return []
    required = [spec for spec in signature.inputs if not spec.optional or spec.name in schema.names]
    return [InputColumn(spec, spec.name, is_feature=True) for spec in required]


def _advise_missing(column: str | None, schemas: dict[pa.Schema, list[str]]) -> str:
    """Return what to do about a column that some partitions have and others lack; "" if not so."""
    if not 0 < sum(column in schema.names for schema in schemas) < len(schemas):
        return ""
    return (
        " Others have it: give a value for where it is missing with "
        f"--allow_missing {column}=VALUE."
    )


def _name(paths: Sequence[str], total: int) -> str:
    distinct = sorted(set(paths))
    if len(distinct) == total:
        return distinct[0] if total == 1 else f"all {total} partitions"
    names = ", ".join(distinct[:_MAX_NAMED])
    more = len(distinct) - _MAX_NAMED
    return f"{names} and {more} more" if more > 0 else names


def find_write_problems(output: str) -> list[str]:
    """Return why nothing can be written at a local path; other file systems tell when asked to."""
    if "://" in output:
        return []
    nearest = Path(output).absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return []
    return [f"--output: expected a folder that can be written, got {nearest}"]
