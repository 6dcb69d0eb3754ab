"""Consoles and tables, so that all have the same width and form."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Wider than any table: pipes and files have no width, and names must not be cut.
_UNBOUNDED_COLUMNS = 100_000


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console as wide as its terminal, or as wide as its tables need without one.

    `COLUMNS` sets the width of both. A quiet console prints nothing.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    is_bounded = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(stderr=stderr, quiet=quiet, width=None if is_bounded else _UNBOUNDED_COLUMNS)


def make_table(*titles: str) -> Table:
    """Return an empty table with one column per title. Long cells are folded, never cut."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(titles))
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def say(console: Console, text: str) -> None:
    """Print a sentence unchanged: no colors, no markup, no line breaks."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
