"""The table of scores, before the first row: whether it is one, and may be written."""

from __future__ import annotations

import os
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from scoreline.lake.table.scores import open_table
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import find_secret


def find_table(output: str, problems: Problems) -> DeltaTable | None:
    """Return the table of scores; None if there is none yet, or if it cannot be opened."""
    if not output or find_secret("", output):
        return None  # told with the options
    try:
        return open_table(output)
    except ValueError as e:
        problems.add(str(e))
    except (OSError, DeltaError) as e:
        problems.add_error(e, "--output")
    return None


def check_writable(output: str, problems: Problems) -> None:
    """Add why nothing can be written at a local path; other file systems tell when asked to."""
    if not output or "://" in output or Path(output).is_file():
        return  # what is no table is told by who opens it
    nearest = Path(output).absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        problems.add(f"--output: expected a folder that can be written, got {nearest}")
