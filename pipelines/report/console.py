"""Print plain sentences on a console."""

from __future__ import annotations

from rich.console import Console


def say(console: Console, text: str) -> None:
    """Print a sentence as it is: no colours, no markup, lines not broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
