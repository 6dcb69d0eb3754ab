"""Delta Lake for Apache Spark, with which tests read and change tables: `make delta-spark`.

    python -m deploy.local.delta_spark

Maven downloads the jars of delta_spark/pom.xml (13 MB) into the cache once. Spark itself is in the
package `pyspark`, whose version must be one that this release of Delta Lake is for.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.local.maven import Jars
from scoreline.pipelines.runners.cache import cache_folder

DELTA_VERSION = "4.4.0"


def delta_jars() -> Jars:
    """Return the jars of Delta Lake, of its fixed version."""
    folder = cache_folder() / f"delta-spark-{DELTA_VERSION}"
    return Jars("Spark", Path(__file__).parent / "delta_spark", folder)


def main() -> int:
    """Download the jars unless they are there, and return the exit code."""
    try:
        delta_jars().fetch()
    except (FileNotFoundError, RuntimeError) as e:
        sys.stderr.write(f"{e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
