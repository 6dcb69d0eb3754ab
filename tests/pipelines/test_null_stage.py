"""Batch jobs of which one stage does nothing, and their stage times."""

from __future__ import annotations

import dataclasses

import pyarrow.parquet as pq
import pytest

from scoreline.pipelines import score_batch
from scoreline.pipelines.plan.null_stage import without_stage
from scoreline.transforms import stage_times
from scoreline.transforms.null_stages import OF_BATCH
from scoreline.transforms.stage_times import STAGES, read_stage_times
from tests.fakes import assert_scored_whole, expected_scores, read_lake, read_scores, score_counted

ROWS = 900  # of the lake
_OF_BATCH = [stage for stage in STAGES if stage not in ("poll", "decode", "encode", "send")]


@pytest.fixture
def arguments(model, lake, tmp_path):
    options = {"input": lake, "model": model, "keys": "id", "output": tmp_path / "scores"}
    return [*(f"--{name}={value}" for name, value in options.items()), "--batch_rows=100"]


@pytest.fixture
def run_with(arguments, monkeypatch):
    """Return a function that runs the job with a changed plan: its exit code and counters."""
    run = score_batch.run

    def changed(of_plan, *flags):
        with monkeypatch.context() as patched:
            patched.setattr(score_batch, "run", lambda plan, *others: run(of_plan(plan), *others))
            return score_counted([*arguments, *flags])

    return changed


def test_every_stage_of_a_job_is_there_with_every_row(run_with, tmp_path, lake):
    directory = str(tmp_path / "times")

    def record(plan):
        return dataclasses.replace(
            plan,
            read=plan.read._replace(stage_times=directory),
            commit=plan.commit._replace(stage_times=directory),
        )

    code, counters = run_with(record)
    assert (code, counters["rows_scored"]) == (0, ROWS)
    assert stage_times.active is None
    assert_scored_whole(lake, tmp_path / "scores")
    workers = read_stage_times(directory, 0, 9e9)
    assert {stage for worker in workers for stage in worker.stages} == set(_OF_BATCH)
    for name in _OF_BATCH:
        stages = [worker.stages[name] for worker in workers if name in worker.stages]
        assert sum(stage.rows for stage in stages) == ROWS, name
        assert sum(stage.calls for stage in stages) > 0, name
        assert all(stage.idle_s == 0 for stage in stages)
    for worker in workers:
        accounted = sum(s.useful_s + s.waiting_s for s in worker.stages.values())
        assert accounted <= worker.wall_s


def test_a_null_model_answers_zeros_for_every_key(run_with, tmp_path, lake):
    code, counters = run_with(lambda plan: without_stage(plan, "predict"))
    assert (code, counters["rows_scored"]) == (0, ROWS)
    rows = read_scores(tmp_path / "scores")
    assert sorted(rows["id"].to_pylist()) == sorted(read_lake(lake)["id"].to_pylist())
    assert set(rows["score"].to_pylist()) == {0.0}
    assert rows["pair"].to_pylist() == [[0.0, 0.0]] * ROWS
    (digest,) = set(rows["model_digest"].to_pylist())
    assert digest.startswith("without(predict):sha256:")


def test_null_features_and_a_null_read_repeat_the_first_batch(run_with, tmp_path, lake):
    wanted = expected_scores(read_lake(lake))
    assert run_with(lambda plan: without_stage(plan, "features"))[0] == 0
    rows = read_scores(tmp_path / "scores").to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(wanted)
    right = [row for row in rows if row["score"] == pytest.approx(wanted[row["id"]], abs=1e-4)]
    assert 100 <= len(right) < ROWS

    def without_two(plan):
        return without_stage(without_stage(plan, "read"), "features")

    code, counters = run_with(without_two, "--reprocess=all")
    assert code == 0
    assert counters["rows_read"] == counters["rows_scored"] == ROWS
    rows = read_scores(tmp_path / "scores")
    assert rows.num_rows == ROWS
    assert len(set(rows["id"].to_pylist())) < ROWS
    (digest,) = set(rows["model_digest"].to_pylist())
    assert digest.startswith("without(read,features):sha256:")


@pytest.mark.parametrize("stage", ["stage", "commit"])
def test_without_staging_or_commits_nothing_is_published_and_a_real_run_is_whole(
    run_with, tmp_path, lake, stage, capsys
):
    output = tmp_path / "scores"
    code, counters = run_with(lambda plan: without_stage(plan, stage))
    assert (code, counters["rows_scored"]) == (1, ROWS)
    told = " ".join(capsys.readouterr().out.split())
    assert f"nothing is committed, since this run leaves out the stage {stage}" in told
    assert read_scores(output).num_rows == 0
    staged = [path for path in output.rglob("*.parquet") if pq.read_metadata(path).num_rows]
    assert bool(staged) == (stage == "commit")
    code, counters = run_with(lambda plan: plan)
    assert code == 0
    assert "shards_skipped" not in counters  # what a null stage had a part in is not taken
    assert_scored_whole(lake, output)


def test_a_stage_that_cannot_be_left_out_is_refused(run_with):
    def refused(plan):
        for stage in ("send", "reed"):
            with pytest.raises(ValueError, match=rf"expected a stage of read, .*, got '{stage}'"):
                without_stage(plan, stage)
        unknown = [shard._replace(rows=-1) for shard in plan.shards]
        with pytest.raises(ValueError, match="expected files that record their number of rows"):
            without_stage(dataclasses.replace(plan, shards=unknown), "read")
        for stage in OF_BATCH:
            without = without_stage(plan, stage)
            assert {s.run_id for s in without.shards}.isdisjoint(s.run_id for s in plan.shards)
            assert stage in without.commit.metadata["model_digest"]
        return plan

    assert run_with(refused)[0] == 0
