"""Writes the report of a load test: prints the page, writes report.html and load_test.json."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.report.document import to_document
from scoreline.pipelines.load_test.report.html import render_html
from scoreline.pipelines.load_test.report.last_run import DOCUMENT, find_last_run
from scoreline.pipelines.load_test.report.page import render
from scoreline.pipelines.load_test.report.scaling_settings import make_scaling_settings
from scoreline.pipelines.load_test.result import LoadTest
from scoreline.pipelines.report.reporter import Reporter

HTML = "report.html"
DEFAULT_FOLDER = Path("build", "load-test")


def report_on(test: LoadTest, profile: Profile, reporter: Reporter, exit_code: int) -> int:
    """Compare with the last run, write the report, print the page, and return the exit code.

    The page is printed also if the folder cannot be written: a test takes minutes or hours.
    """
    folder = folder_of(profile, test)
    problems = []
    test = dataclasses.replace(test, compared_with=find_last_run(test, folder.parent))
    document = to_document(test, exit_code)
    reporter.tell(render(test))
    try:
        write_files(test, document, folder)
    except OSError as e:
        problems.append(
            f"The report is not written: expected a writable folder {folder}: {e.strerror}"
        )
    else:
        reporter.tell(f"{'report':10}{folder / HTML}")
    if profile.write_scaling:
        problems += _write_scaling(test, Path(profile.write_scaling), reporter)
    return reporter.end(exit_code, {**document, "problems": problems}, problems)


def folder_of(profile: Profile, test: LoadTest) -> Path:
    """Return the folder of the report."""
    return Path(profile.output or DEFAULT_FOLDER / f"{test.started:%Y%m%d-%H%M%S}")


def write_files(test: LoadTest, document: dict[str, object], folder: Path) -> None:
    """Write report.html and load_test.json.

    Raises:
      OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DOCUMENT).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", "utf-8")
    (folder / HTML).write_text(render_html(test), "utf-8")


def _write_scaling(test: LoadTest, folder: Path, reporter: Reporter) -> list[str]:
    """Write settings for autoscalers, and return why some are missing."""
    made = make_scaling_settings(test)
    try:
        if made.files:
            folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.files.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as e:
        return [f"--write_scaling: expected a writable folder {folder}: {e.strerror}"]
    if made.files:
        reporter.tell(f"{'scaling':10}{folder}: {', '.join(sorted(made.files))}")
    return list(made.problems)
