"""Beam's Flink runner as one jar, built by Maven from the pinned versions of job_server/pom.xml.

    python -m deploy.local.job_server JAR

The official `beam-runners-flink-…-job-server` jar works too: pass it as `FLINK_JOB_SERVER_JAR=` or
`--flink_job_server_jar`. The content of the jar is compared, entry by entry, with the content of
the tested build. No download can change unnoticed.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from deploy.local.maven import run_maven

_SOURCE = Path(__file__).parent / "job_server"
_CHUNK_BYTES = 1 << 20
# This entry names the Java and Maven of the build, so it varies.
_VARIES = "META-INF/MANIFEST.MF"


def content_digest(jar: Path) -> str:
    """Return the SHA-256 of the entries of a jar, independent of their order and dates."""
    whole = hashlib.sha256()
    with zipfile.ZipFile(jar) as archive:
        for info in sorted(archive.infolist(), key=lambda entry: entry.filename):
            if info.is_dir() or info.filename == _VARIES:
                continue
            digest = hashlib.sha256()
            with archive.open(info) as entry:
                while chunk := entry.read(_CHUNK_BYTES):
                    digest.update(chunk)
            whole.update(f"{info.filename} {digest.hexdigest()}\n".encode())
    return whole.hexdigest()


def build(jar: Path) -> None:
    """Build the jar. It appears under its name only if its content is as expected.

    Raises:
      RuntimeError: Maven fails, or the jar has other content.
    """
    wanted = (_SOURCE / "content.sha256").read_text().split()[0]
    jar.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jar.parent) as folder:
        shutil.copy(_SOURCE / "pom.xml", folder)
        run_maven(Path(folder), "package")
        (built,) = Path(folder, "target").glob("beam-flink-job-server-*.jar")
        found = content_digest(built)
        if found != wanted:
            raise RuntimeError(
                f"Expected a jar of content {wanted}, got {found} from Maven. If a version changed "
                f"in {_SOURCE / 'pom.xml'}, test the new jar and write its digest to "
                f"{_SOURCE / 'content.sha256'}"
            )
        built.replace(jar)


def main(argv: Sequence[str] | None = None) -> int:
    """Build the jar unless it exists, and return the exit code."""
    (path,) = sys.argv[1:] if argv is None else argv
    if Path(path).exists():
        return 0
    if shutil.which("mvn") is None:
        sys.stderr.write(
            "Expected Maven to build Beam's Flink runner, got no `mvn` on PATH. Install Maven, or "
            "pass a jar: FLINK_JOB_SERVER_JAR=PATH\n"
        )
        return 1
    sys.stderr.write("Building Beam's Flink runner with Maven; this takes about two minutes …\n")
    try:
        build(Path(path))
    except RuntimeError as e:
        sys.stderr.write(f"{e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
