"""Finds the load that a pipeline holds: reads the profile, runs the test, reports."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from scoreline.pipelines.doing import doing
from scoreline.pipelines.exit_codes import EXIT_INVALID, EXIT_OK, EXIT_SLO_NOT_MET, EXIT_STOPPED
from scoreline.pipelines.extras import require_extra
from scoreline.pipelines.load_test.judge.elements import Outcome
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.load_test import read_load_test
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.report.console import say
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.reporter import Reporter, make_reporter

EXIT_CODES = {
    Outcome.PASS: EXIT_OK,
    Outcome.FAIL: EXIT_SLO_NOT_MET,
    Outcome.UNDECIDED: EXIT_SLO_NOT_MET,
    Outcome.INVALID: EXIT_INVALID,
}
# Modules of the extra load-test, by the name of their package.
_EXTRA = {"hdrh": "hdrhistogram", "jinja2": "jinja2", "psutil": "psutil", "yaml": "pyyaml"}
_EXTRA |= {"scipy": "scipy"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    set_up_logs()
    flags = sys.argv[1:] if argv is None else argv
    reporter = make_reporter("load-test", flags)
    try:
        return _execute(flags, reporter)
    except BadOptions as e:
        return reporter.end(e.exit_code, problems=e.problems)
    except KeyboardInterrupt:
        return reporter.end(EXIT_STOPPED, problems=["Stopped: there is no verdict."])


def _execute(flags: Sequence[str], reporter: Reporter) -> int:
    problems = Problems()
    given, _ = parse_flags("load-test", flags, problems)
    settings = read_load_test(given, problems)
    problems.check_usage()
    require_extra("load-test", _EXTRA)
    from scoreline.pipelines.load_test.read_profile import read_profile

    with doing("reading the profile"):
        profile = read_profile(settings, problems)
    # Beam is imported only now: a wrong profile is reported at once.
    from scoreline.pipelines.load_test.run import run_load_test

    with doing("testing the load"):
        # Progress goes to stderr, so that stdout has the page alone.
        test = run_load_test(profile, lambda text: say(reporter.errors, text))
    with doing("writing the report"):
        from scoreline.pipelines.load_test.report.write import report_on

        return report_on(test, profile, reporter, EXIT_CODES[test.outcome])
