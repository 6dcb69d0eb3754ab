"""Makes a model cheaper: checks the flags, makes and judges variants, reports."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from scoreline.models.errors import ModelError
from scoreline.pipelines.doing import doing
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_STOPPED
from scoreline.pipelines.extras import require_extra
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.optimize import read_optimize
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.report.console import say
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.reporter import Reporter, make_reporter

# Modules of the extra optimize, by the name of their package.
_EXTRA = {"ai_edge_litert": "ai-edge-litert", "jinja2": "jinja2"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    set_up_logs()
    flags = sys.argv[1:] if argv is None else argv
    reporter = make_reporter("optimize", flags)
    try:
        return _execute(flags, reporter)
    except BadOptions as e:
        return reporter.end(e.exit_code, problems=e.problems)
    except ModelError as e:
        return reporter.end(EXIT_FAILED, problems=[f"The model fails in its own process: {e}"])
    except OSError as e:
        return reporter.end(EXIT_FAILED, problems=[f"The folder cannot be written: {e}"])
    except KeyboardInterrupt:
        return reporter.end(EXIT_STOPPED, problems=["Stopped: nothing was written."])


def _execute(flags: Sequence[str], reporter: Reporter) -> int:
    problems = Problems()
    given, _ = parse_flags("optimize", flags, problems)
    settings = read_optimize(given, problems)
    problems.check_usage()
    require_extra("optimize", _EXTRA)
    from scoreline.pipelines.optimize.report import report_on
    from scoreline.pipelines.optimize.run import optimize

    with _complete_or_nothing(settings.output, problems) as folder:
        with doing("making and judging variants"):
            found = optimize(settings, folder, problems, lambda text: say(reporter.errors, text))
        with doing("writing the report"):
            document = report_on(found, settings.output, folder, reporter)
    return reporter.end(EXIT_OK, document)


@contextlib.contextmanager
def _complete_or_nothing(path: str, problems: Problems) -> Iterator[str]:
    """Yield a new folder, which gets its name at the end, or is removed after an error."""
    at = Path(path)
    if path and at.exists():
        problems.add(
            f"--output: expected no file or folder at {path}, where the variants are written. "
            "Remove it, or name another folder"
        )
    partial = at.with_name(f".{at.name}.{uuid.uuid4().hex}")
    try:
        partial.mkdir(parents=True)
        yield str(partial)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
