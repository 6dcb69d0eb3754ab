"""A rerun scores only what was in flight: staged shards are found, checked and reused."""

from __future__ import annotations

import json
import signal

import apache_beam as beam
import pyarrow as pa
import pytest

from scoreline.lake.table.scores import create_table
from scoreline.pipelines import score_batch
from scoreline.pipelines.plan.batch import make_plan
from scoreline.pipelines.runners.runner import read_signature
from scoreline.transforms import metrics
from tests.fakes import assert_scored_whole, make_rows, save_model, write_file, write_lake
from tests.pipelines.test_kill import DIES, arguments
from tests.processes import run_script

# One shard per file: rows beyond the first file do not fit in a shard with it.
SMALL_SHARDS = "from scoreline.lake.files import shards; shards.SHARD_ROWS = 100\n"


@pytest.fixture
def killed(tmp_path, model):
    """Return a lake of two days in three shards each, killed when four shards were staged."""
    lake = write_lake(tmp_path / "lake", days=2, rows=300, files=3)
    dies = "commit.commit_partition = die"
    output = tmp_path / "scores"
    script = SMALL_SHARDS + DIES.format(replace=dies)
    done = run_script(tmp_path, script, *arguments(lake, model, output), "--workers=1")
    assert done.code == -signal.SIGKILL, done.err
    receipts = sorted((output / "_scoreline" / "receipts").glob("*/*.json"))
    assert len(receipts) == 6
    return lake, output, receipts


@pytest.fixture
def rerun(monkeypatch, model):
    """Run again and return the rows that were read."""
    monkeypatch.setattr("scoreline.lake.files.shards.SHARD_ROWS", 100)
    read: list[int] = []
    real = score_batch.read_counters

    def spy(result):
        counters = real(result)
        read.append(counters.get(metrics.ROWS_READ.name, 0))
        return counters

    monkeypatch.setattr(score_batch, "read_counters", spy)

    def run(lake, output, *options):
        code = score_batch.main([*arguments(lake, model, output), *options])
        return code, read[-1] if read else None

    return run


def test_staged_shards_are_committed_without_being_scored_again(killed, rerun, capsys):
    lake, output, receipts = killed
    assert rerun(lake, output, "--workers=2") == (0, 0)
    assert "6 shards, not scored again" in capsys.readouterr().out
    assert_scored_whole(lake, output)
    assert not any(receipt.exists() for receipt in receipts)


def test_only_shards_whose_receipt_or_file_is_wrong_are_scored_again(killed, rerun):
    lake, output, receipts = killed
    staged = sorted(output.glob("date=*/part-*.parquet"))
    assert len(staged) == 6
    staged[0].unlink()  # gone
    data = bytearray(staged[1].read_bytes())
    data[len(data) // 2] ^= 1
    staged[1].write_bytes(data)  # tampered with
    receipts[2].write_bytes(receipts[2].read_bytes()[:-3])  # partial
    code, rows = rerun(lake, output)
    assert (code, rows) == (0, 300)
    assert_scored_whole(lake, output)


def test_a_job_that_the_runner_restarts_finds_what_its_first_attempt_staged(
    tmp_path, model, monkeypatch
):
    """A runner restarts a job with the graph that was built before anything was staged."""
    monkeypatch.setattr("scoreline.lake.files.shards.SHARD_ROWS", 100)
    lake = write_lake(tmp_path / "lake", days=2, rows=300, files=3)
    output = tmp_path / "scores"
    settings, options = score_batch.read_settings(arguments(lake, model, output))
    plan = make_plan(settings, lambda s, digest: read_signature(s, digest, options))
    create_table(settings.output, plan.work.schema, plan.partition_columns)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    score_batch.build(pipeline, settings, plan, plan.work, "job")

    def fail(*args, **kwargs):
        raise RuntimeError("the first attempt ends before its commits")

    with monkeypatch.context() as patch:
        patch.setattr("scoreline.transforms.commit.commit_partition", fail)
        with pytest.raises(RuntimeError, match="the first attempt ends"):
            pipeline.run().wait_until_finish()
    receipts = sorted((output / "_scoreline" / "receipts").glob("*/*.json"))
    assert len(receipts) == 6
    receipts[0].unlink()
    result = pipeline.run()
    result.wait_until_finish()
    counters = score_batch.read_counters(result)
    read, skipped = (counters[m.name] for m in (metrics.ROWS_READ, metrics.SHARDS_SKIPPED))
    assert (read, skipped) == (100, 5)
    assert_scored_whole(lake, output)


def test_staged_files_that_were_swapped_are_scored_again(killed, rerun):
    lake, output, _ = killed
    first, second = sorted(output.glob("date=2024-01-01/part-*.parquet"))[:2]
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])
    assert rerun(lake, output) == (0, 200)
    assert_scored_whole(lake, output)


def test_a_receipt_never_leads_out_of_the_table(killed, rerun):
    import google_crc32c

    lake, output, receipts = killed
    held = json.loads(receipts[0].read_bytes().partition(b"\n")[2])
    body = json.dumps({**held, "path": "../secret.parquet"}).encode()
    receipts[0].write_bytes(f"{google_crc32c.value(body):08x}\n".encode() + body)
    assert rerun(lake, output) == (0, 100)
    assert_scored_whole(lake, output)


def test_another_model_does_not_use_what_the_first_staged(killed, tmp_path, monkeypatch):
    lake, output, _ = killed
    other = save_model(tmp_path / "other", weight=5.0)
    assert score_batch.main(arguments(lake, other, output)) == 0
    from tests.fakes import expected_scores, read_lake, read_scores

    wanted = expected_scores(read_lake(lake), weight=5.0)
    rows = read_scores(output).to_pylist()
    assert all(abs(row["score"] - wanted[row["id"]]) < 1e-4 for row in rows)
    assert len(rows) == len(wanted)


def test_dead_letters_of_a_staged_shard_are_kept_with_it(tmp_path, rerun, monkeypatch):
    rows = make_rows(0, 200)
    x = [None if i == 7 else v for i, v in enumerate(rows["x"].to_pylist())]
    rows = rows.set_column(1, "x", pa.array(x, pa.float32()))
    for number in range(2):
        part = rows.slice(number * 100, 100)
        write_file(tmp_path / "lake", "date=2024-01-01", f"{number}.parquet", part)
    output = tmp_path / "scores"
    options = ["--max_dead_letter_ratio=0.5"]

    def fail(*args, **kwargs):
        raise RuntimeError("killed before the commit")

    with monkeypatch.context() as patch:
        patch.setattr("scoreline.transforms.commit.commit_partition", fail)
        assert rerun(tmp_path / "lake", output, *options)[0] == 1
    assert rerun(tmp_path / "lake", output, *options) == (3, 0)
    from tests.fakes import read_scores

    assert read_scores(output).num_rows == 199
    assert len(list((tmp_path / "scores_dead_letters" / "date=2024-01-01").iterdir())) == 1
