"""Runs a load test: from a profile to its result."""

from __future__ import annotations

from collections.abc import Callable

from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.result import LoadTest
from scoreline.pipelines.options.problems import BadOptions


def run_load_test(profile: Profile, say: Callable[[str], None]) -> LoadTest:
    """Run a load test.

    Args:
      profile: the checked profile.
      say: tells the user about progress.

    Raises:
      BadOptions: broker, model or records are wrong, found before the first probe.
    """
    raise BadOptions([f"load-test: expected a driver of {profile.mode} tests, which is not built"])
