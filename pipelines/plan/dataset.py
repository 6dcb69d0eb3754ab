"""The dataset that is scored: which kind it is, its schema, and columns that its files lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from scoreline.lake.files.data_file import Footer
from scoreline.lake.files.delta import is_delta_table, list_delta_partitions
from scoreline.lake.files.examples import RAW_COLUMN
from scoreline.lake.files.formats import FORMATS, describe_files
from scoreline.lake.files.missing import Constant
from scoreline.lake.files.partitions import Listing, Partition, PartitionSpec, list_partitions
from scoreline.lake.files.schema_file import read_schema_file
from scoreline.lake.storage import resolve
from scoreline.models.mapping import find_field
from scoreline.models.signature import InputColumn
from scoreline.pipelines.options.batch import BatchScoringSettings
from scoreline.pipelines.options.problems import as_problem

# A schema is inferred from the first file of each of so many partitions.
SAMPLED_PARTITIONS = 16
_MAX_NAMED = 5


def list_input(path: str, specs: Sequence[PartitionSpec]) -> Listing:
    """Return the partitions of a dataset: folders, or a Delta table's log.

    Raises:
      ValueError: the URI's scheme is unknown.
      OSError: the dataset cannot be listed.
    """
    if is_delta_table(path):
        return list_delta_partitions(path, specs)
    file_system, root = resolve(path)
    return list_partitions(file_system, root, specs)


def select_partitions(settings: BatchScoringSettings, problems: list[str]) -> Listing:
    """Return the partitions that are meant; adds what is wrong with them to the problems."""
    try:
        listing = list_input(settings.input, settings.partitions)
    except (ValueError, OSError) as e:
        problems.append(as_problem(e, "--input"))
        return Listing([], [])
    problems += listing.problems
    found = listing.partitions
    if not listing.problems and not found and not settings.partitions:
        problems.append(
            f"--input: no partition in {settings.input}; expected folders column=value with "
            "*.parquet files or others that docs/inputs.md names"
        )
    chosen: dict[str, Partition] = {}
    for spec in settings.partitions:
        matched = [
            p for p in found if set(spec.columns) <= set(p.columns) and spec.matches(p.values)
        ]
        if not matched and not listing.problems:
            problems.append(_describe_no_match(settings, spec.text))
        chosen |= {p.path: p for p in matched}
    return listing._replace(partitions=sorted(chosen.values()) if settings.partitions else found)


def _describe_no_match(settings: BatchScoringSettings, spec: str) -> str:
    every = list_input(settings.input, ()).partitions
    if not every:
        return f"--partitions {spec}: no partition matches; there is none in {settings.input}"
    return (
        f"--partitions {spec}: no partition matches; {settings.input} has {len(every)}, from "
        f"{every[0].path} to {every[-1].path}"
    )


def given_schema(
    settings: BatchScoringSettings, data_format: str, problems: list[str]
) -> pa.Schema | None:
    """Return the schema that `--schema` says; adds what is wrong with it to the problems."""
    if settings.schema is None:
        return None
    try:
        return read_schema_file(settings.schema, data_format)
    except (ValueError, OSError) as e:
        problems.append(as_problem(e, f"--schema {settings.schema}"))
        return None


def choose_schema(
    settings: BatchScoringSettings,
    listing: Listing,
    given: pa.Schema | None,
) -> pa.Schema | None:
    """Return the types that all files of the run are read as; None for files that say their own.

    A schema that is not given is inferred from the same files in each run over these partitions:
    the first of each of the first `SAMPLED_PARTITIONS` that hold any.

    Raises:
      ValueError: the files are of another kind, or no one schema holds them.
    """
    infer = FORMATS[listing.format].infer
    if infer is None:
        return None
    file_system, _ = resolve(settings.input)
    with_files = [p for p in listing.partitions if p.files and not p.problems]
    paths = [p.files[0].path for p in with_files[:SAMPLED_PARTITIONS]]
    schema = infer(file_system, paths, given)
    if listing.format != "tfrecord":
        return schema
    if RAW_COLUMN in schema.names:
        raise ValueError(f"a feature is named '{RAW_COLUMN}', as the record itself is")
    return schema.append(pa.field(RAW_COLUMN, pa.large_binary()))


def find_inference_problems(
    listing: Listing, partitions: Sequence[Partition], schema: pa.Schema | None
) -> list[str]:
    """Return why a schema says nothing although there are files; nothing when it does."""
    if schema is None or set(schema.names) - {RAW_COLUMN}:
        return []
    if not any(partition.files for partition in partitions):
        return []
    return [
        "--input: no row to infer a schema from; say one with --schema, or leave partitions "
        f"without rows out: the first files of {listing.partitions[0].path} … are empty"
    ]


def read_footers(
    settings: BatchScoringSettings,
    listing: Listing,
    partitions: Sequence[Partition],
    schema: pa.Schema | None,
) -> dict[str, list[Footer]]:
    """Return what the files of partitions say of themselves, by partition."""
    file_system, _ = resolve(settings.input)
    files = [file for p in partitions for file in p.files]
    footers = iter(describe_files(file_system, listing.format, files, schema))
    return {p.path: [next(footers) for _ in p.files] for p in partitions}


def choose_constants(
    settings: BatchScoringSettings,
    inputs: Sequence[InputColumn],
    partitions: Sequence[Partition],
    schemas: Mapping[pa.Schema, list[str]],
    problems: list[str],
) -> tuple[Constant, ...]:
    """Return the columns to add where files lack them; adds what is wrong to the problems.

    These are the partition columns that inputs take, and those of `--allow_missing`.
    """
    columns = partitions[0].columns if partitions else ()
    constants = []
    for column in columns:
        kinds = {_type_for(source) for source in inputs if source.column == column}
        if kinds and any(column not in schema.names for schema in schemas):
            if len(kinds) > 1:
                problems.append(
                    f"partition column '{column}' feeds inputs of several dtypes, "
                    f"{' and '.join(sorted(map(str, kinds)))}; expected one"
                )
            constants.append(Constant(column, sorted(kinds, key=str)[0]))
    for column, text in settings.allow_missing.items():
        if column in columns:
            problems.append(
                f"--allow_missing {column}: it is a partition column, which is never missing"
            )
            continue
        kind = _type_of_missing(settings, column, inputs, schemas, problems)
        if kind is not None:
            constants.append(Constant(column, kind, text))
    valid = [c for c in constants if _has_values(c, inputs, partitions, problems)]
    return tuple(c for c in valid if any(c.column not in schema.names for schema in schemas))


def _type_for(source: InputColumn) -> pa.DataType:
    """Return the type to read a text as for an input; conversions are given the text itself."""
    dtype = source.tensor.dtype
    if source.conversion or dtype in ("string", "bfloat16"):
        return pa.string()
    return pa.type_for_alias(dtype)


def _type_of_missing(
    settings: BatchScoringSettings,
    column: str,
    inputs: Sequence[InputColumn],
    schemas: Mapping[pa.Schema, list[str]],
    problems: list[str],
) -> pa.DataType | None:
    takers = [source for source in inputs if source.column == column]
    if not takers and column not in settings.carried:
        problems.append(
            f"--allow_missing {column}: no input, key or kept column reads a column '{column}'"
        )
        return None
    held = [found[0] for schema in schemas if (found := find_field(schema, column))]
    if held and not any(column in schema.names for schema in schemas):
        problems.append(
            f"--allow_missing {column}: expected a column, got a field of a struct. Add it in the "
            "table"
        )
        return None
    if held or takers:
        return held[0] if held else _type_for(takers[0])
    problems.append(
        f"--allow_missing {column}: no partition has the column and no input takes it, so nothing "
        "says its type. Leave it out of --keys and --keep"
    )
    return None


def _has_values(
    constant: Constant,
    inputs: Sequence[InputColumn],
    partitions: Sequence[Partition],
    problems: list[str],
) -> bool:
    """Return whether a constant has a value in each partition; adds to the problems if not."""
    if constant.text is not None:
        try:
            constant.value_in("")
        except ValueError as e:
            problems.append(f"--allow_missing {constant.column}={constant.text}: {e}")
            return False
        return True
    wrong: list[str] = []
    for partition in partitions:
        try:
            constant.value_in(partition.path)
        except ValueError as e:
            wrong.append(f"{partition.path} ({e})")
    if wrong:
        takers = [s.tensor for s in inputs if s.column == constant.column]
        more = f" and {len(wrong) - _MAX_NAMED} more" if len(wrong) > _MAX_NAMED else ""
        problems.append(
            f"partition column '{constant.column}' feeds input '{takers[0].name}' as {takers[0]}; "
            f"got {', '.join(wrong[:_MAX_NAMED])}{more}. Leave these partitions out with "
            "--partitions, or name another column with --columns"
        )
    return not wrong


def add_constant_fields(
    schemas: Mapping[pa.Schema, list[str]], constants: Sequence[Constant]
) -> dict[pa.Schema, list[str]]:
    """Return schemas as record batches have them, with the constants that files lack."""
    added: dict[pa.Schema, list[str]] = {}
    for schema, paths in schemas.items():
        for constant in constants:
            if constant.column not in schema.names:
                schema = schema.append(pa.field(constant.column, constant.data_type))
        added.setdefault(schema, []).extend(paths)
    return added
