"""The numbers that the benchmark of an added TaskManager derives from the times of shards."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.flink_rescale import describe
from benchmarks.shard_times import Staged, read_staged, rows_per_s
from tests.fakes import make_rows, write_file


def test_rows_per_s_leaves_out_the_shard_that_was_under_way_at_the_beginning():
    staged = Staged(np.array([0.0, 2.0, 4.0, 9.0]), np.array([7, 10, 10, 50]))
    assert rows_per_s(staged, 0, 5) == 5
    with pytest.raises(ValueError, match="expected two or more shards in 1 s, got 1"):
        rows_per_s(staged, 3, 4)


def test_speed_is_reported_before_and_after():
    alone, together = np.arange(0.0, 30, 2), np.arange(50.0, 60, 1)
    at = np.concatenate([alone, together])
    text = describe(Staged(at, np.full(at.size, 1000)), added=30, joined=42)
    assert "| one TaskManager | 500 |" in text
    assert "| two TaskManagers | 1,000 (2.00 ×) |" in text
    assert "worker 12 s later" in text
    assert "staged 8 s after" in text


def test_shards_are_found_wherever_they_are(tmp_path):
    write_file(tmp_path, "date=2024-01-01", "a.parquet", make_rows(0, 3))
    write_file(tmp_path, "_staged", "b.parquet", make_rows(3, 4))
    assert sorted(read_staged(tmp_path).rows) == [3, 4]
