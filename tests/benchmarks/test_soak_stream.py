from __future__ import annotations

import numpy as np
import pytest

from benchmarks.data import Workload
from benchmarks.soak_stream import JOBS, Growth, Result, find_failures, fit_growth, to_command
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.problems import Problems

FLAT = Growth(500.0, 500.0, 0.0, 0.1)


def test_growth_of_memory_is_fitted_with_its_standard_error():
    seconds = np.arange(0.0, 1440.0, 2.0)
    noise = np.random.default_rng(7).normal(0, 3.0, seconds.size)
    flat = fit_growth(list(zip(seconds, 500 + noise, strict=True)))
    assert abs(flat.mb_per_hour) < 3 * flat.error
    assert not flat.exceeds(0.0)
    leak = fit_growth(list(zip(seconds, 500 + seconds / 3600 * 40 + noise, strict=True)))
    assert leak.mb_per_hour == pytest.approx(40, abs=4)
    assert leak.last_mb - leak.first_mb == pytest.approx(16, abs=2)
    assert leak.exceeds(30)
    assert not leak.exceeds(50)


@pytest.mark.parametrize(
    ("job", "change", "told"),
    [
        (0, {}, None),
        (0, {"lost": 1}, "1 records were lost"),
        (0, {"doubled": 1}, "duplicated"),
        (1, {"doubled": 1}, "duplicated"),
        (2, {"doubled": 7}, None),  # allowed by at least once
        (3, {"doubled": 1}, "duplicated"),
        (3, {"exit_code": 1}, "expected exit code 0, got 1"),
        (1, {"growth": Growth(500.0, 520.0, 50.0, 1.0)}, "grew by 50 MB/hour"),
        (1, {"growth": Growth(500.0, 520.0, 50.0, 20.0)}, None),  # inconclusive samples
    ],
)
def test_a_broken_guarantee_fails_the_soak(job, change, told):
    result = Result(JOBS[job], 0, 3, 0, 0, FLAT, 0.1)._replace(**change)
    failures = find_failures([result], 30.0)
    assert len(failures) == (told is not None)
    assert told is None or told in failures[0]


def test_each_job_is_started_with_its_own_group_and_promise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    work = Workload(flights=tmp_path, models={"small": tmp_path / "m"}, keep=(), fills={})
    commands = {job.name: to_command(job, "b:9092", "in", "out", work) for job in JOBS}
    for name, command in commands.items():
        problems = Problems()
        options = parse_flags("stream", command[4:], problems).given
        assert not problems
        assert (options.topic, options.output_topic, options.group) == ("in", "out", "out")
        assert options.exactly_once == name.startswith("exactly once")
        assert options.restart == name.endswith("killed")
