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
from scoreline.models.conversions import parse_conversion
from scoreline.models.mapping import find_field, find_mismatches
from scoreline.models.signature import (
    InputColumn,
    Signature,
    TensorSpec,
    find_unsupported,
    parse_value,
)
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
    """Return where each input gets its values; adds what is wrong with that to the problems.

    A signature that takes serialized tf.Examples is given a column of them where there is one: the
    column that `--columns` names for that input, or the records of a TFRecord, unless an option
    speaks of a feature. Elsewhere its inputs are the features, made to tf.Examples for each call.
    """
    problems += find_unsupported(_stored(signature, settings))
    names = [spec.name for spec in signature.inputs]
    example = signature.example_input
    of_features = {
        "--columns": [name for name in settings.columns if not example or name != example],
        "--fill": settings.fills,
        "--pad": settings.pads,
        "--truncate": settings.truncate,
    }
    serialized = ""
    if example and (example in settings.columns or data_format == "tfrecord"):
        serialized = settings.columns.get(example, RAW_COLUMN)
    asked = [f"{flag} {name}" for flag, tensors in of_features.items() for name in tensors]
    if example in settings.columns and example and asked:
        problems.append(
            f"--columns {example}={serialized} gives whole tf.Examples, so nothing can be done to "
            f"a feature; got {', '.join(asked)}. Leave out the one or the others"
        )
    for flag, tensors in of_features.items():
        for name in tensors:
            if name not in names:
                problems.append(
                    f"{flag} {name}: signature '{signature.name}' has no input '{name}'; "
                    f"it has {', '.join(names)}"
                )
    if serialized and not asked:
        return [InputColumn(TensorSpec(example, "string", (None,)), serialized)]
    return [_choose_input(settings, signature, spec, problems) for spec in signature.inputs]


def _choose_input(
    settings: BatchScoringSettings, signature: Signature, spec: TensorSpec, problems: list[str]
) -> InputColumn:
    values = {}
    for flag, texts in (("--fill", settings.fills), ("--pad", settings.pads)):
        if spec.name in texts:
            try:
                values[flag] = parse_value(flag, spec, texts[spec.name])
            except ValueError as e:
                problems.append(str(e))
    conversion, column = parse_conversion(settings.columns.get(spec.name, spec.name))
    return InputColumn(
        spec,
        column,
        values.get("--fill"),
        conversion,
        values.get("--pad"),
        spec.name in settings.truncate,
        bool(signature.example_input),
    )


def _stored(signature: Signature, settings: BatchScoringSettings) -> Signature:
    """Return the signature with only the outputs that are asked for."""
    wanted = settings.outputs
    kept = tuple(spec for spec in signature.outputs if wanted is None or spec.name in wanted)
    return signature._replace(outputs=kept)


def choose_outputs(
    settings: BatchScoringSettings,
    signature: Signature,
    partition_columns: Sequence[str],
    problems: list[str],
) -> list[tuple[TensorSpec, str, str]]:
    """Return the outputs to store, their columns, and `binary` for strings that are kept as bytes.

    Adds what is wrong to the problems.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    asked = settings.outputs or specs
    kept = {name: settings.output_column(name) for name in asked}
    wanted = {name: column for name, (column, _) in kept.items()}
    for name in wanted.keys() - specs.keys():
        problems.append(
            f"--outputs {name}: signature '{signature.name}' has no output '{name}'; "
            f"it has {', '.join(specs)}"
        )
    taken = {*settings.carried, DIGEST_COLUMN}
    if settings.outputs is None:  # given names are checked with the options
        for name in sorted(taken & wanted.keys()):
            problems.append(
                f"output '{name}' has the name of another output column. Rename it with "
                f"--outputs {name}=COLUMN"
            )
    for column in partition_columns:
        if column in {*settings.keep, DIGEST_COLUMN} or column in wanted.values():
            problems.append(
                f"output column '{column}' is a partition column, which the output has anyway. "
                "Leave it out of --keep, or rename the output with --outputs T=COLUMN"
            )
    for name, (_, conversion) in kept.items():
        if conversion and name in specs and specs[name].dtype != "string":
            problems.append(f"--outputs {name}: binary(…) is for strings; it is {specs[name]}")
    return [(specs[name], *column) for name, column in kept.items() if name in specs]


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
