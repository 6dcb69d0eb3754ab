"""Writes the report of a load test."""

from __future__ import annotations

from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.result import LoadTest
from scoreline.pipelines.report.reporter import Reporter


def report_on(test: LoadTest, profile: Profile, reporter: Reporter, exit_code: int) -> int:
    """Print the page, and return the exit code."""
    reporter.tell(f"{test.outcome.value} {profile.source}")
    return reporter.end(exit_code)
