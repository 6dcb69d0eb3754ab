"""Which column feeds which input, and what is done to it: told the same way by every command."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from scoreline.models.mapping import find_field, find_mismatches
from scoreline.models.signature import InputColumn
from scoreline.pipelines.plan.fit import Fit


class Mapped(NamedTuple):
    """One input: what it wants, what the column has, what is done on the way, and the verdict.

    `problem` is "" when the column fits; else it says what to do.
    """

    tensor: str
    wants: str
    column: str
    has: str
    steps: str
    problem: str


def map_inputs(fit: Fit, schema: pa.Schema) -> list[Mapped]:
    """Return how each input of a model is fed from a table of a schema."""
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
    """Return what is done to a column's values on the way into its input; "" for nothing."""
    steps = [f"{source.conversion}(…)"] if source.conversion else []
    if source.fill is not None:
        steps.append(f"null → {source.fill!r}")
    elif source.tensor.optional:
        steps.append("null → missing feature")
    if source.pad is not None:
        steps.append(f"padded with {source.pad!r}")
    if source.truncate:
        steps.append("cut off")
    return ", ".join(steps)
