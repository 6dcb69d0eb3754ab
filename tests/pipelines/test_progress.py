"""The progress display: its counts, and the cost of watching a job."""

from __future__ import annotations

import pytest

from scoreline.lake.elements import UNKNOWN_ROWS, Shard
from scoreline.lake.table.layout import staged_name
from scoreline.pipelines.report.progress import StagedShards, pause_after
from scoreline.pipelines.score_batch import prepare
from tests.inputs import write_bytes, write_dataset

RUN_ID = "0123456789abcde"


def make_shard(number, rows=7):
    return Shard("date=2024-01-01", RUN_ID, "", number, 200_000, (), rows)


def stage(root, number):
    path = root / staged_name("date=2024-01-01", number, RUN_ID, "89abcdef")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize("number", [0, 99_999, 100_000, 1_234_567])
def test_a_staged_shard_is_counted_whatever_its_number(tmp_path, number):
    staged = StagedShards([make_shard(number), make_shard(number + 1)], str(tmp_path))
    assert (staged.total, staged.unit, staged.count()) == (14, "rows", 0)
    stage(tmp_path, number)
    assert staged.count() == 7
    assert staged.count() == 7  # counted once
    stage(tmp_path, number + 1)
    assert staged.count() == 14


def test_shards_are_counted_when_their_rows_are_unknown(tmp_path):
    staged = StagedShards([make_shard(0), make_shard(1, UNKNOWN_ROWS)], str(tmp_path))
    stage(tmp_path, 0)
    assert (staged.total, staged.unit, staged.count()) == (2, "shards", 1)


def test_files_of_other_runs_and_hidden_files_are_not_counted(tmp_path):
    staged = StagedShards([make_shard(0)], str(tmp_path))
    stage(tmp_path, 5)
    folder = tmp_path / "date=2024-01-01"
    (folder / f"part-00000-{'f' * 15}-89abcdef.parquet").touch()
    (folder / f".part-00000-{RUN_ID}.tmp").touch()
    assert staged.count() == 0


def test_a_slow_look_at_the_staged_files_is_not_repeated_at_once():
    assert pause_after(0.0, 0.5) == 0.5
    assert pause_after(0.01, 0.5) == 0.5
    assert pause_after(60.0, 0.5) == 600.0


def test_progress_counts_shards_where_rows_are_not_known(tmp_path, model):
    root, _ = write_dataset(tmp_path / "lake", "tfrecord", days=2)
    plan = prepare(
        [f"--input={root}", f"--model={model}", "--keys=id", f"--output={tmp_path / 'scores'}"]
    ).found.plan
    seen = StagedShards(plan.shards, plan.stage.output)
    assert (seen.total, seen.unit, seen.count()) == (4, "shards", 0)
    shard = plan.shards[1]
    name = f"part-{shard.number:05d}-{shard.run_id}-00000000.parquet"
    write_bytes(tmp_path / "scores" / shard.partition / name, b"")
    assert seen.count() == 1
