"""Checks of the table of scores before the first row: it can be opened and written."""

from __future__ import annotations

import os
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from scoreline.lake.table.layout import find_root_problems
from scoreline.lake.table.scores import open_table
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import find_secret


def find_table(output: str, problems: Problems) -> DeltaTable | None:
    """Return the table of scores; None if it does not exist yet, or cannot be opened."""
    if not output or find_secret("", output):
        return None  # reported with the options
    try:
        table = open_table(output)
        if table is None:
            problems.add_all(find_root_problems(output))
        return table
    except ValueError as e:
        problems.add(str(e))
    except (OSError, DeltaError) as e:
        problems.add_error(e, "--output")
    return None


def check_writable(output: str, problems: Problems) -> None:
    """Add a problem if a local path is not writable; other stores report it at the write."""
    if not output or "://" in output or Path(output).is_file():
        return  # reported when the table is opened
    nearest = Path(output).absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        problems.add(f"--output: expected a writable folder, got {nearest}")
