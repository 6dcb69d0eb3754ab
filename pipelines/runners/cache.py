"""Where make keeps what it fetches and builds."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder, outside the tree: `$CACHE`, as make has it, else the same default."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CACHE") or Path(home) / "scoreline")
