"""The columns that feed inputs, in the same form for every command."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from scoreline.models.mapping import find_field, find_mismatches
from scoreline.models.signature import InputColumn
from scoreline.pipelines.plan.fit import Fit


class Mapped(NamedTuple):
    """One input: its spec, its column, the preparation of values, and the problem.

    `problem` is "" if the column fits.
    """

    tensor: str
    wants: str
    column: str
    has: str
    steps: str
    problem: str


def map_inputs(fit: Fit, schema: pa.Schema) -> list[Mapped]:
    """Return the source of each input of a model, for a table of a schema."""
    problems = find_mismatches(fit.signature, fit.inputs, schema)
    return [
        Mapped(
            source.tensor.name,
            str(source.tensor),
            source.column,
            " and ".join(map(str, find_field(schema, source.column))) or "no such column",
            describe_steps(source),
            problems.get(source.tensor.name, ""),
        )
        for source in fit.inputs
    ]


def describe_steps(source: InputColumn) -> str:
    """Return the preparation of a column's values for its input; "" for none."""
    steps = [f"{source.asked}(…)"] if source.asked else []
    if source.fill is not None:
        steps.append(f"null → {source.fill!r}")
    elif source.tensor.optional:
        steps.append("null → missing feature")
    if source.pad is not None:
        steps.append(f"padded with {source.pad!r}")
    if source.truncate:
        steps.append("cut off")
    return ", ".join(steps)
