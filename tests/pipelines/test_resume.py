"""A rerun scores only shards that were in flight: staged shards are checked and reused."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import google_crc32c
import pyarrow as pa
import pytest

from scoreline.lake.table.scores import create_table
from scoreline.pipelines import score_batch
from scoreline.transforms import metrics
from tests.fakes import (
    assert_scored_whole,
    expected_scores,
    make_rows,
    read_scores,
    save_model,
    score_counted,
)
from tests.inputs import flags_of, write_dataset, write_rows
from tests.pipelines.test_kill import arguments
from tests.processes import run_to_death

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory, model):
    """Return two days of three shards each, all staged when the run was killed.

    Each JSON Lines file is one shard.
    """
    folder = tmp_path_factory.mktemp("killed")
    root, rows = write_dataset(folder / "lake", "jsonl", days=2, files=3)
    lake = Lake(root, rows, folder / "scores")
    done = run_to_death("gathered", "batch", *lake.arguments(model), "--workers=1")
    assert done.code == -signal.SIGKILL, done.err
    assert len(lake.receipts()) == 6
    return lake


@pytest.fixture
def killed(tmp_path, killed_once):
    """Return the same with a copy of the table that a test may change."""
    shutil.copytree(killed_once.output, tmp_path / "scores")
    return killed_once._replace(output=tmp_path / "scores")


class Lake(NamedTuple):
    """Files of JSON Lines, their rows, and their scores table."""

    root: str
    rows: pa.Table
    output: Path

    def arguments(self, model):
        return [*arguments(self.root, model, self.output), *flags_of("jsonl")]

    def receipts(self):
        return sorted((self.output / "_scoreline" / "receipts").glob("*/*.json"))


@pytest.fixture
def rerun(model):
    """Run again; return the exit code and the number of rows read."""

    def run(lake, *options):
        code, counters = score_counted([*lake.arguments(model), *options])
        return code, counters.get(metrics.ROWS_READ.name, 0)

    return run


def test_staged_shards_are_committed_without_being_scored_again(killed, model, capsys):
    receipts = killed.receipts()
    assert score_batch.main([*killed.arguments(model), "--workers=2"]) == 0
    out = capsys.readouterr().out
    assert "6 shards, not scored again" in out
    assert_scored_whole(killed.rows, killed.output)
    assert not any(receipt.exists() for receipt in receipts)


def test_only_shards_whose_receipt_or_file_is_wrong_are_scored_again(killed, rerun):
    staged = sorted(killed.output.glob("date=*/part-*.parquet"))
    assert len(staged) == 6
    staged[0].unlink()  # deleted
    data = bytearray(staged[1].read_bytes())
    data[len(data) // 2] ^= 1
    staged[1].write_bytes(data)  # tampered with
    partial = killed.receipts()[2]
    partial.write_bytes(partial.read_bytes()[:-3])
    assert rerun(killed) == (0, 300)
    assert_scored_whole(killed.rows, killed.output)


def test_a_job_that_the_runner_restarts_finds_what_its_first_attempt_staged(
    tmp_path, killed, model, monkeypatch
):
    """A runner restarts a job with the graph that was built before anything was staged."""
    lake = killed._replace(output=tmp_path / "fresh")
    plan = score_batch.prepare(lake.arguments(model)).found.plan
    create_table(plan.stage.output, plan.stage.schema, plan.commit.partition_columns)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    score_batch.build(pipeline, plan)

    def fail(*args, **kwargs):
        raise RuntimeError("the first attempt ends before its commits")

    with monkeypatch.context() as patch:
        patch.setattr("scoreline.transforms.commit.DeltaTable", fail)
        with pytest.raises(RuntimeError, match="the first attempt ends"):
            pipeline.run().wait_until_finish()
    assert len(lake.receipts()) == 6
    lake.receipts()[0].unlink()
    result = pipeline.run()
    result.wait_until_finish()
    counters = score_batch.read_counters(result)
    read, skipped = (counters[m.name] for m in (metrics.ROWS_READ, metrics.SHARDS_SKIPPED))
    assert (read, skipped) == (100, 5)
    assert_scored_whole(lake.rows, lake.output)


def test_staged_files_that_were_swapped_are_scored_again(killed, rerun):
    first, second = sorted(killed.output.glob("date=2024-01-01/part-*.parquet"))[:2]
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])
    assert rerun(killed) == (0, 200)
    assert_scored_whole(killed.rows, killed.output)


def test_a_receipt_never_leads_out_of_the_table(killed, rerun):
    receipt = killed.receipts()[0]
    held = json.loads(receipt.read_bytes().partition(b"\n")[2])
    body = json.dumps({**held, "path": "../secret.parquet"}).encode()
    receipt.write_bytes(f"{google_crc32c.value(body):08x}\n".encode() + body)
    assert rerun(killed) == (0, 100)
    assert_scored_whole(killed.rows, killed.output)


def test_another_model_does_not_use_what_the_first_staged(killed, tmp_path):
    other = save_model(tmp_path / "other", weight=5.0)
    assert score_batch.main(killed.arguments(other)) == 0
    wanted = expected_scores(killed.rows, weight=5.0)
    rows = read_scores(killed.output).to_pylist()
    assert all(abs(row["score"] - wanted[row["id"]]) < 1e-4 for row in rows)
    assert len(rows) == len(wanted)


def test_dead_letters_of_a_staged_shard_are_kept_with_it(tmp_path, model, rerun):
    rows = make_rows(0, 200)
    x = [None if i == 7 else v for i, v in enumerate(rows["x"].to_pylist())]
    rows = rows.set_column(1, "x", pa.array(x, pa.float32()))
    for number in range(2):
        part = rows.slice(number * 100, 100)
        write_rows(tmp_path / "lake", "date=2024-01-01", str(number), part, "jsonl")
    lake = Lake(str(tmp_path / "lake"), rows, tmp_path / "scores")
    option = "--max_dead_letter_ratio=0.5"
    killed = run_to_death("gathered", "batch", *lake.arguments(model), option)
    assert killed.code == -signal.SIGKILL, killed.err
    assert rerun(lake, option) == (3, 0)
    assert read_scores(lake.output).num_rows == 199
    assert len(list((tmp_path / "scores_dead_letters" / "date=2024-01-01").iterdir())) == 1
