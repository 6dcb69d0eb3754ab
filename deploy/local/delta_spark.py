"""Delta Lake for Apache Spark, with which tests read and change tables: `make delta-spark`.

    python -m deploy.local.delta_spark

Maven downloads the jars of delta_spark/pom.xml (13 MB) into the cache once. Spark itself is in the
package `pyspark`, whose version must be one that this release of Delta Lake is for.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from deploy.local.maven import run_maven
from scoreline.pipelines.runners.cache import cache_folder

DELTA_VERSION = "4.4.0"
_POM = Path(__file__).parent / "delta_spark" / "pom.xml"


def _jars_folder() -> Path:
    return cache_folder() / f"delta-spark-{DELTA_VERSION}"


def missing_tools() -> list[str]:
    """Return the missing programs that Spark needs: java, and mvn for the jars."""
    needed = ["java"] if _jars_folder().is_dir() else ["java", "mvn"]
    return [name for name in needed if shutil.which(name) is None]


def fetch_jars() -> Path:
    """Return the folder of the jars; Maven downloads them if they are missing.

    Raises:
      FileNotFoundError: Java or Maven is not installed.
      RuntimeError: Maven failed; the message has its output.
    """
    folder = _jars_folder()
    if missing := missing_tools():
        raise FileNotFoundError(f"Expected {' and '.join(missing)} on PATH for Spark")
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        jars = Path(fresh, "jars")
        run_maven(_POM.parent, "dependency:copy-dependencies", f"-DoutputDirectory={jars}")
        with contextlib.suppress(OSError):  # another process created the folder first
            jars.rename(folder)
    return folder


def main() -> int:
    """Download the jars unless they are there, and return the exit code."""
    try:
        fetch_jars()
    except (FileNotFoundError, RuntimeError) as e:
        sys.stderr.write(f"{e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
