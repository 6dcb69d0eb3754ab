"""What watching a job costs it."""

from __future__ import annotations

from scoreline.pipelines.report.progress import pause_after


def test_a_slow_look_at_the_staged_files_is_not_repeated_at_once():
    assert pause_after(0.0, 0.5) == 0.5
    assert pause_after(0.01, 0.5) == 0.5
    assert pause_after(60.0, 0.5) == 600.0
