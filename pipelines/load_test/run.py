"""Runs a load test: from a profile to its result."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.driver.child import ChildEnded
from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.result import LoadTest
from scoreline.pipelines.load_test.run_batch import run_batch_test
from scoreline.pipelines.load_test.run_stream import run_stream_test
from scoreline.pipelines.options.problems import BadOptions, Passing


def run_load_test(profile: Profile, say: Callable[[str], None]) -> LoadTest:
    """Run a load test.

    All processes that it starts end with it, and its topics, tables and files are removed.

    Args:
      profile: the checked profile.
      say: tells the user about progress.

    Raises:
      BadOptions: broker, model or records are wrong, or a process of the test ended before its
        time; then another try may succeed.
      KeyboardInterrupt: the test was stopped, by Ctrl-C or SIGTERM.
    """
    budget = Budget(profile.budget_s)
    began = dt.datetime.now(dt.UTC)
    with _stopped_by_sigterm(), _folder() as folder:
        try:
            if profile.mode == "batch":
                return run_batch_test(profile, folder, budget, began, say)
            return run_stream_test(profile, folder, uuid.uuid4().hex[:8], budget, began, say)
        except (ChildEnded, TimeoutError) as e:
            raise BadOptions([Passing(f"The test ended before its verdict: {e}")]) from e


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="scoreline-load-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the test in order, like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
