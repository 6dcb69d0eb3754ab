"""Beam's Flink runner as one jar, built by Maven from the pinned versions of job_server/pom.xml.

    python -m deploy.local.job_server JAR

The official `beam-runners-flink-…-job-server` jar does as well: give it as
`FLINK_JOB_SERVER_JAR=` or `--flink_job_server_jar`. What Maven built is compared, entry by entry,
with what it gave when the versions were tried: nothing that is fetched can change unseen.
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
# Says with which Java and Maven it was built.
_VARIES = "META-INF/MANIFEST.MF"


def content_digest(jar: Path) -> str:
    """Return the SHA-256 of what a jar's entries hold, whatever their order and their dates."""
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
    """Build the jar; it appears under its name only when it is whole and what is expected.

    Raises:
      RuntimeError: Maven fails, or the jar holds something else.
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
                f"The jar that Maven built holds something else than expected: {found}, expected "
                f"{wanted}. Was a version changed in {_SOURCE / 'pom.xml'}? Then try it, and write "
                f"the new digest into {_SOURCE / 'content.sha256'}"
            )
        built.replace(jar)


def main(argv: Sequence[str] | None = None) -> int:
    """Build the jar unless it is there, and return the exit code."""
    (path,) = sys.argv[1:] if argv is None else argv
    if Path(path).exists():
        return 0
    if shutil.which("mvn") is None:
        sys.stderr.write(
            "Beam's Flink runner is built with Maven: no `mvn` on PATH. Install Maven, or give the "
            "jar: FLINK_JOB_SERVER_JAR=PATH\n"
        )
        return 1
    sys.stderr.write("Building Beam's Flink runner with Maven; this takes a minute or two …\n")
    try:
        build(Path(path))
    except RuntimeError as e:
        sys.stderr.write(f"{e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
