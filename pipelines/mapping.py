"""Which column feeds which input, and what is done to it: told the same way by every command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
from rich.markup import escape
from rich.table import Table

from models.columns import find_field, find_mismatches
from models.signature import InputColumn, Signature


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


def map_inputs(
    signature: Signature, inputs: Sequence[InputColumn], schema: pa.Schema
) -> list[Mapped]:
    """Return how each input of a signature is fed from a table of a schema."""
    problems = find_mismatches(signature, inputs, schema)
    return [
        Mapped(
            source.tensor.name,
            str(source.tensor),
            source.column,
            " and ".join(map(str, find_field(schema, source.column))) or "no such column",
            describe_steps(source),
            problems.get(source.tensor.name, ""),
        )
        for source in inputs
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


def mapping_table(mapped: Sequence[Mapped]) -> Table:
    """Return the mapping as a table for people; problems stand below, in full."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("input", "wants", "column", "has", "on the way", "verdict"):
        table.add_column(title, overflow="fold")
    for row in mapped:
        verdict = "does not fit" if row.problem else "fits"
        cells = (row.tensor, row.wants, row.column, row.has, row.steps, verdict)
        table.add_row(*map(escape, cells))
    return table
