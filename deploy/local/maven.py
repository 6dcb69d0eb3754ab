"""Maven, which downloads and builds the jars of the local engines."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import subprocess
import tempfile
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


@dataclasses.dataclass(frozen=True)
class Jars:
    """The jars of a Java program, which Maven downloads into a folder once.

    Attributes:
      program: the name of the program in messages, as in `a Kafka broker`.
      pom: the folder of the pom.xml that lists the jars.
      folder: the folder of the jars; its name has their version.
    """

    program: str
    pom: Path
    folder: Path

    def missing_tools(self) -> list[str]:
        """Return the missing tools: java, and mvn if the jars are not there."""
        needed = ["java"] if self.folder.is_dir() else ["java", "mvn"]
        return [name for name in needed if shutil.which(name) is None]

    def fetch(self) -> Path:
        """Return the folder of the jars; Maven downloads them if they are missing.

        Raises:
          FileNotFoundError: Java or Maven is not installed.
          RuntimeError: Maven failed; the message has its output.
        """
        if missing := self.missing_tools():
            raise FileNotFoundError(f"Expected {' and '.join(missing)} on PATH for {self.program}")
        if self.folder.is_dir():
            return self.folder
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as fresh:
            jars = Path(fresh, "jars")
            run_maven(self.pom, "dependency:copy-dependencies", f"-DoutputDirectory={jars}")
            with contextlib.suppress(OSError):  # another process created the folder first
                jars.rename(self.folder)
        return self.folder
