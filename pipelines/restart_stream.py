"""`scoreline stream --restart`: runs the stream in another process, and restarts it if it fails.

This process only waits, so it imports neither Beam nor Kafka's client.
"""

from __future__ import annotations

from collections.abc import Sequence

from scoreline.pipelines.report.console import say
from scoreline.pipelines.report.reporter import make_reporter
from scoreline.pipelines.supervise import supervise


def main(argv: Sequence[str]) -> int:
    """Run the same command without --restart until it ends, and return its exit code."""
    reporter = make_reporter("stream", argv)
    once = [flag for flag in argv if flag != "--restart"]
    # The group is set to --start only once: after a failure, a restart continues at its offsets.
    again = _without_start(once)
    return supervise(once, again, lambda text: say(reporter.errors, text), ["scoreline", "stream"])


def _without_start(argv: Sequence[str]) -> list[str]:
    """Return a command line without --start and --start_time."""
    kept: list[str] = []
    skip = False
    for flag in argv:
        if skip:
            skip = False
        elif flag in ("--start", "--start_time"):
            skip = True
        elif not flag.startswith(("--start=", "--start_time=")):
            kept.append(flag)
    return kept
