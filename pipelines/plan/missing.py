"""Columns that do not come from files: partition columns of inputs, and `--allow_missing`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from scoreline.lake.files.missing import NULL, Constant
from scoreline.lake.files.partitions import Partition
from scoreline.models.mapping import find_field
from scoreline.models.signature import InputColumn
from scoreline.models.suggest import find_twin, paths_of, suggest
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.plan.fit import Fit

_MAX_NAMED = 5
_NO_SCHEMA = pa.schema([])


def choose_constants(
    allow_missing: Mapping[str, str],
    fit: Fit,
    partitions: Sequence[Partition],
    schemas: Mapping[pa.Schema, Sequence[str]],
    problems: Problems,
    known: pa.Schema = _NO_SCHEMA,
) -> tuple[Constant, ...]:
    """Return the columns that do not come from files, and add all problems.

    These are the partition columns that feed inputs, also where files have a column of that name,
    and the columns of `--allow_missing` that a file lacks. `known` has types of columns that no
    file has: those of the Delta table, and of the table of scores.
    """
    columns = partitions[0].columns if partitions else ()
    constants = []
    for column in columns:
        kinds = {
            _type_of_partition(source, schemas) for source in fit.inputs if source.column == column
        }
        if kinds and schemas:
            if len(kinds) > 1:
                problems.add(
                    f"partition column '{column}' feeds inputs of several dtypes, "
                    f"{' and '.join(sorted(map(str, kinds)))}; expected one"
                )
            constants.append(Constant(column, sorted(kinds, key=str)[0]))
    for column, text in allow_missing.items():
        if column in columns:
            problems.add(
                f"--allow_missing {column}: it is a partition column, which is never missing"
            )
            continue
        kind = _type_of_missing(column, fit, schemas, known, problems)
        if kind is not None and _may_be_missing(column, text, fit, schemas, problems):
            constants.append(Constant(column, kind, text))
    for constant in constants:
        _check_values(constant, fit.inputs, partitions, problems)
    return tuple(
        c
        for c in constants
        if c.is_partition or any(c.column not in schema.names for schema in schemas)
    )


def _type_of_partition(
    source: InputColumn, schemas: Mapping[pa.Schema, Sequence[str]]
) -> pa.DataType:
    """Return the type of a partition column for an input.

    A conversion may need the type that files give the column: `epoch_days(date)`.
    """
    held = {kind for schema in schemas for kind in find_field(schema, source.column)}
    if source.conversion and len(held) == 1 and not pa.types.is_dictionary(next(iter(held))):
        return held.pop()
    return _type_for(source)


def _type_for(source: InputColumn) -> pa.DataType:
    """Return the type of a text for an input; a conversion gets the text itself."""
    dtype = source.tensor.dtype
    if source.conversion or dtype in ("string", "bfloat16"):
        return pa.string()
    return pa.type_for_alias(dtype)


def _type_of_missing(
    column: str,
    fit: Fit,
    schemas: Mapping[pa.Schema, Sequence[str]],
    known: pa.Schema,
    problems: Problems,
) -> pa.DataType | None:
    takers = [source for source in fit.inputs if source.column == column]
    if not takers and column not in fit.carried:
        problems.add(
            f"--allow_missing {column}: no input, key or kept column reads a column '{column}'"
            f"{suggest(column, fit.columns)}"
        )
        return None
    held = [found[0] for schema in schemas if (found := find_field(schema, column))]
    if held and not any(column in schema.names for schema in schemas):
        problems.add(
            f"--allow_missing {column}: expected a column, got a field of a struct. Add it in the "
            "table"
        )
        return None
    if held or takers:
        return held[0] if held else _type_for(takers[0])
    if column in known.names:
        return known.field(column).type
    problems.add(
        f"--allow_missing {column}: no partition has the column and no input takes it, so its type "
        "is unknown. Leave it out of --keys and --keep"
    )
    return None


def _may_be_missing(
    column: str,
    text: str,
    fit: Fit,
    schemas: Mapping[pa.Schema, Sequence[str]],
    problems: Problems,
) -> bool:
    """Return whether files may lack a column; if not, add a problem."""
    for schema, paths in schemas.items():
        if column not in schema.names and (twin := find_twin(column, schema.names)):
            problems.add(
                f"--allow_missing {column}: {paths[0]} has '{twin}' instead. Write it with one "
                "name everywhere, or leave these partitions out with --partitions"
            )
            return False
    if column in fit.keys and (text == NULL or len(fit.keys) == 1):
        problems.add(
            f"--allow_missing {column}={text}: it is a key, and all rows of a file would have the "
            "same. Add a key that tells rows apart, or leave these partitions out with --partitions"
        )
        return False
    takers = [s for s in fit.inputs if s.column == column and s.fill is None]
    takers = [source for source in takers if not source.tensor.optional]
    if text == NULL and takers:
        name = takers[0].tensor.name
        problems.add(
            f"--allow_missing {column}=null: expected a value, since input '{name}' takes no null. "
            f"Give one here, or with --fill {name}=VALUE"
        )
        return False
    return True


def find_absent(fit: Fit, sampled: pa.Schema, schemas: Iterable[pa.Schema]) -> list[str]:
    """Return the columns that `--schema` names and no sampled row has, if they were misspelled.

    In JSON Lines and TFRecord each row may lack a column, so all of its values would be null.
    """
    there = paths_of(sampled)
    problems: list[str] = []
    for column in fit.columns if there else ():
        if column in there or not all(find_field(schema, column) for schema in schemas):
            continue  # a column that files lack is reported with them
        twin = find_twin(column, there)
        if twin or (column in fit.keys and len(fit.keys) == 1):
            hint = suggest(column, there)
            problems.append(
                f"--schema: expected a column '{column}' in the first files, got none{hint or '.'} "
                "All its values would be null. Give the name that the files have"
            )
    return problems


def _check_values(
    constant: Constant,
    inputs: Sequence[InputColumn],
    partitions: Sequence[Partition],
    problems: Problems,
) -> None:
    """Add a problem if a constant has no value of its type in a partition."""
    if constant.text is not None:
        try:
            constant.value_in("")
        except ValueError as e:
            problems.add(f"--allow_missing {constant.column}={constant.text}: {e}")
        return
    wrong: list[str] = []
    for partition in partitions:
        try:
            constant.value_in(partition.path)
        except ValueError as e:
            wrong.append(f"{partition.path} ({e})")
    if wrong:
        takers = [s.tensor for s in inputs if s.column == constant.column]
        more = f" and {len(wrong) - _MAX_NAMED} more" if len(wrong) > _MAX_NAMED else ""
        problems.add(
            f"partition column '{constant.column}' feeds input '{takers[0].name}' as {takers[0]}; "
            f"got {', '.join(wrong[:_MAX_NAMED])}{more}. Leave these partitions out with "
            "--partitions, or name another column with --columns"
        )


def add_constant_fields(
    schemas: Mapping[pa.Schema, Sequence[str]], constants: Sequence[Constant]
) -> dict[pa.Schema, list[str]]:
    """Return the schemas of record batches, with the constants."""
    added: dict[pa.Schema, list[str]] = {}
    for schema, paths in schemas.items():
        for constant in constants:
            field = pa.field(constant.column, constant.data_type)
            if constant.column not in schema.names:
                schema = schema.append(field)
            elif constant.is_partition:
                others = [held for held in schema if held.name != constant.column]
                schema = pa.schema([*others, field])
        added.setdefault(schema, []).extend(paths)
    return added
