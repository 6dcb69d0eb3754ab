from __future__ import annotations

import signal

import psutil
import pytest

from tests.processes import run_script, start_script, wait_until_stopped

REACHES = "from scoreline.lake.kill_points import reach\nfor turn in range(4):\n    {line}"
PRINTS = REACHES.format(line="reach('staged'); print(turn, flush=True)")


@pytest.mark.parametrize(
    ("die_at", "code", "printed"),
    [
        ({}, 0, "0123"),
        ({"SCORELINE_DIE_AT": "committed"}, 0, "0123"),
        ({"SCORELINE_DIE_AT": "staged"}, -signal.SIGKILL, ""),
        ({"SCORELINE_DIE_AT": "staged:3"}, -signal.SIGKILL, "01"),
    ],
)
def test_a_process_dies_at_the_chosen_time_that_it_reaches_the_chosen_point(
    tmp_path, die_at, code, printed
):
    ended = run_script(tmp_path, PRINTS, environment=die_at)
    assert (ended.code, "".join(ended.out.split())) == (code, printed), ended.err


def test_a_process_that_stops_at_a_point_continues_after_sigcont(tmp_path):
    process = start_script(tmp_path, PRINTS, environment={"SCORELINE_STOP_AT": "staged:2"})
    try:
        wait_until_stopped([process])
        psutil.Process(process.pid).resume()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out.split()) == (0, list("0123")), err


@pytest.mark.parametrize("value", ["nowhere", "staged:", "staged:soon", "staged:-1"])
def test_a_point_that_does_not_exist_is_refused(tmp_path, value):
    ended = run_script(tmp_path, PRINTS, environment={"SCORELINE_DIE_AT": value})
    assert ended.code == 1
    assert "SCORELINE_DIE_AT: expected POINT or POINT:N with a point of ['checked'," in ended.err
    assert f"got '{value}'" in ended.err
