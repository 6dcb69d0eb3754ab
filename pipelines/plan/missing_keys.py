"""Keys that JSON records may lack: `--allow_missing` of a stream."""

from __future__ import annotations

import pyarrow as pa

from scoreline.lake.files.missing import NULL, Constant
from scoreline.models.mapping import find_field
from scoreline.models.suggest import suggest
from scoreline.pipelines.options.kafka_source import SourceSettings
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.plan.fit import Fit


def find_required(source: SourceSettings, fit: Fit) -> tuple[str, ...]:
    """Return the keys that each JSON record must have; those of optional features may be absent."""
    if source.format != "json":
        return ()
    optional = {s.column for s in fit.inputs if s.tensor.optional} - set(fit.carried)
    return tuple(c for c in fit.columns if c not in optional and c not in source.allow_missing)


def plan_missing(
    source: SourceSettings, fit: Fit, schema: pa.Schema, problems: Problems
) -> tuple[Constant, ...]:
    """Return the values for absent keys, and add all problems."""
    if source.allow_missing and source.format != "json":
        problems.add(
            "--allow_missing: expected --format=json. A tf.Example without a feature has a null, "
            "which --fill replaces; an Avro record has each field, or the default of the reader "
            "schema"
        )
        return ()
    constants = []
    for column, text in source.allow_missing.items():
        problem = _find_problem(column, text, fit, schema)
        if problem:
            problems.add(f"--allow_missing {column}={text}: {problem}")
        else:
            constants.append(Constant(column, schema.field(column).type, text))
    return tuple(constants)


def _find_problem(column: str, text: str, fit: Fit, schema: pa.Schema) -> str:
    if column not in fit.columns:
        return f"no input, key or kept column reads '{column}'{suggest(column, fit.columns)}"
    if column not in schema.names:
        return (
            "expected a key of the record, got one of an object in it"
            if find_field(schema, column)
            else "the type of the column is unknown"
        )
    if column in fit.keys:
        return "it is a key, and all records without it would have the same"
    takers = [s for s in fit.inputs if s.column == column and not s.tensor.optional]
    unfilled = [source.tensor.name for source in takers if source.fill is None]
    if text == NULL and unfilled:
        name = unfilled[0]
        return f"input '{name}' takes no null; give a value here, or with --fill {name}=VALUE"
    try:
        Constant(column, schema.field(column).type, text).value_in("")
    except ValueError as e:
        return str(e)
    return ""
