"""Signature, schemas and output held against each other, before the first row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from models.signature import (
    InputColumn,
    Signature,
    TensorSpec,
    find_mismatches,
    find_unsupported,
    parse_fill,
)
from pipelines.settings import BatchScoringSettings
from transforms.io.delta import storable_type
from transforms.io.partitions import Partition
from transforms.io.shards import Footer
from transforms.score import DIGEST_COLUMN

_MOST_NAMED = 5


def choose_inputs(
    settings: BatchScoringSettings, signature: Signature, problems: list[str]
) -> list[InputColumn]:
    """Return where each input gets its values; adds what is wrong with that to the problems."""
    problems += find_unsupported(_stored(signature, settings))
    names = [spec.name for spec in signature.inputs]
    for flag, given in (("--columns", settings.columns), ("--fill", settings.fills)):
        for name in given.keys() - names:
            problems.append(
                f"{flag} {name}=…: signature '{signature.name}' has no input '{name}'; "
                f"it has {', '.join(names)}"
            )
    inputs = []
    for spec in signature.inputs:
        fill = None
        if spec.name in settings.fills:
            try:
                fill = parse_fill(spec, settings.fills[spec.name])
            except ValueError as e:
                problems.append(str(e))
        inputs.append(InputColumn(spec, settings.columns.get(spec.name, spec.name), fill))
    return inputs


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
) -> list[tuple[TensorSpec, str]]:
    """Return the outputs to store and their columns; adds what is wrong to the problems."""
    specs = {spec.name: spec for spec in signature.outputs}
    wanted = settings.outputs or {name: name for name in specs}
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
        if column in taken or column in wanted.values():
            problems.append(
                f"output column '{column}' is a partition column, which the output has anyway. "
                "Leave it out of --keys and --keep, or rename the output with --outputs T=COLUMN"
            )
    return [(specs[name], column) for name, column in wanted.items() if name in specs]


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
    for schema, paths in schemas.items():
        for problem in find_mismatches(signature, inputs, schema).values():
            where.setdefault(problem, []).extend(paths)
        for flag, columns in (("--keys", settings.keys), ("--keep", settings.keep)):
            for column in columns:
                at = schema.get_all_field_indices(column)
                if len(at) != 1:
                    count = "no column" if not at else f"{len(at)} columns"
                    note = f"{flag}: the table has {count} '{column}'"
                    if column not in partition_columns:
                        where.setdefault(note, []).extend(paths)
                    continue
                try:
                    kind = str(storable_type(schema.field(at[0]).type))
                    stored.setdefault(column, {}).setdefault(kind, []).extend(paths)
                except ValueError as e:
                    where.setdefault(f"{flag}: column '{column}': {e}", []).extend(paths)
    total = len({path for paths in schemas.values() for path in paths})
    problems = [f"{problem} (in {_name(paths, total)})." for problem, paths in where.items()]
    for column, kinds in stored.items():
        if len(kinds) > 1:
            places = " and ".join(f"{kind} in {_name(p, 0)}" for kind, p in kinds.items())
            problems.append(f"column '{column}' cannot be copied to one table: it is {places}.")
    return problems


def _name(paths: Sequence[str], total: int) -> str:
    distinct = sorted(set(paths))
    if len(distinct) == total:
        return distinct[0] if total == 1 else f"all {total} partitions"
    names = ", ".join(distinct[:_MOST_NAMED])
    more = len(distinct) - _MOST_NAMED
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
