"""Maven, which fetches and builds the jars of engines on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

_TAIL = 4000


def run_maven(folder: Path, *goals: str) -> None:
    """Run goals of the pom.xml in a folder, whose dependencies have fixed versions.

    Raises:
      RuntimeError: Maven fails; holds the end of what it printed.
    """
    # --strict-checksums: a download that is not what the repository says of it is refused.
    command = ["mvn", "--quiet", "--batch-mode", "--strict-checksums", *goals]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Maven failed:\n{done.stdout[-_TAIL:]}{done.stderr[-_TAIL:]}")
