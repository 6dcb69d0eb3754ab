"""The first scores of a model, and the sources of its inputs, as text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoreline.pipelines.plan.input_table import Mapped
from scoreline.pipelines.plan.preview import FirstScores
from scoreline.pipelines.report.console import make_table, say
from scoreline.transforms.purity import Purity


def print_first_scores(found: FirstScores, console: Console) -> None:
    """Show the mapping, its problems, and the scores."""
    if found.mapped:
        console.print(f"\nfed from {found.partition}", highlight=False)
        console.print(mapping_table(found.mapped), highlight=False)
    for mapped in found.mapped:
        if mapped.problem:
            say(console, f"\n{mapped.problem}")
    if found.failure:
        console.print(f"\nThe model fails: {found.failure}", highlight=False, markup=False)
    if found.saturated:
        console.print(
            f"\n{found.saturated} values of these rows are beyond the range of a quantized input: "
            "the model gets the end of the range",
            highlight=False,
        )
    if found.purity is not None and (found.purity.rows or found.purity.problem):
        say(console, f"\n{describe_purity(found.purity)}")
    if found.rows:
        console.print("\nscores of the first rows", highlight=False)
        for row in found.rows:
            shown = ", ".join(f"{name} {_short(value)}" for name, value in row.items())
            console.print(f"  {shown}", highlight=False, markup=False)


def describe_purity(purity: Purity) -> str:
    """Return the result of a purity check as a sentence."""
    return purity.problem or (
        f"purity: {purity.rows:,} rows have the same scores together, alone, reversed, in calls of "
        "other sizes and again"
    )


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:60] + " …"


def mapping_table(mapped: Sequence[Mapped]) -> Table:
    """Return the mapping as a table; full problems follow below it."""
    table = make_table("input", "wants", "column", "has", "on the way", "verdict")
    for row in mapped:
        verdict = "does not fit" if row.problem else "fits"
        cells = (row.tensor, row.wants, row.column, row.has, row.steps, verdict)
        table.add_row(*map(escape, cells))
    return table
