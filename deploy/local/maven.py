"""Maven, which downloads and builds the jars of the local engines."""

from __future__ import annotations

import subprocess
from pathlib import Path

_TAIL = 4000


def run_maven(folder: Path, *goals: str) -> None:
    """Run goals of the pom.xml in a folder, whose dependencies have fixed versions.

    Raises:
      RuntimeError: Maven fails; the message has the end of its output.
    """
    # --strict-checksums rejects a download that does not match the repository's checksum.
    command = ["mvn", "--quiet", "--batch-mode", "--strict-checksums", *goals]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Maven failed:\n{done.stdout[-_TAIL:]}{done.stderr[-_TAIL:]}")
