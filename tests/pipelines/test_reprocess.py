"""The partitions that a run scores: missing, failed, stale, or all; and the newest."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.fakes import (
    assert_scored_whole,
    make_rows,
    read_scores,
    save_model,
    write_file,
    write_lake,
)
from tests.model_zoo import save_function


@pytest.fixture
def own_lake(tmp_path):
    return write_lake(tmp_path / "lake", days=4, rows=20)


def committed(ended):
    assert ended.code == 0, ended.err
    lines = [line for line in ended.out.splitlines() if line.startswith("partitions")]
    return int(lines[0].split()[1]) if lines else 0


def test_last_scores_the_newest_and_catches_up_when_run_again(score, own_lake, tmp_path):
    assert committed(score("--last=2", input=own_lake)) == 2
    dates = set(read_scores(tmp_path / "scores")["date"].to_pylist())
    assert dates == {"2024-01-03", "2024-01-04"}
    write_file(tmp_path / "lake", "date=2024-01-05", "0.parquet", make_rows(900, 10))
    assert committed(score("--last=4", input=own_lake)) == 2  # the new one, and an earlier one
    assert committed(score("--last=4", input=own_lake)) == 0
    assert committed(score(input=own_lake)) == 1
    assert_scored_whole(own_lake, tmp_path / "scores")


def test_newest_is_by_number_where_values_are_numbers(score, tmp_path):
    for number in (9, 10, 11):
        write_file(tmp_path / "lake", f"n={number}", "0.parquet", make_rows(number * 100, 5))
    assert committed(score("--last=2", input=tmp_path / "lake")) == 2
    assert set(read_scores(tmp_path / "scores")["n"].to_pylist()) == {"10", "11"}


def test_another_model_scores_only_missing_partitions_by_default(score, own_lake, tmp_path):
    assert committed(score("--partitions=date=2024-01-01..2024-01-02", input=own_lake)) == 2
    other = save_model(tmp_path / "other", weight=7.0)
    assert committed(score(input=own_lake, model=other)) == 2
    digests = read_scores(tmp_path / "scores").group_by("model_digest").aggregate([])
    assert digests.num_rows == 2
    told = score(input=own_lake, model=other)
    assert "2 of them were scored with another model" in told.out
    assert committed(score("--reprocess=all", input=own_lake, model=other)) == 4
    assert len(read_scores(tmp_path / "scores")["model_digest"].unique()) == 1


def test_failed_scores_only_what_failed_last_time(score, own_lake, tmp_path):
    broken = tmp_path / "lake" / "date=2024-01-05" / "0.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"no parquet")
    assert score("--partitions=date=2024-01-04..2024-01-05", input=own_lake).code == 1
    broken.unlink()
    write_file(tmp_path / "lake", "date=2024-01-05", "0.parquet", make_rows(900, 10))
    assert committed(score("--reprocess=failed", input=own_lake)) == 1
    nothing = score("--reprocess=failed", input=own_lake)
    assert "no partition failed last time" in nothing.out
    assert committed(score(input=own_lake)) == 3


def test_all_repairs_a_damaged_file_of_the_same_work(score, own_lake, tmp_path):
    assert committed(score(input=own_lake)) == 4
    before = read_scores(tmp_path / "scores").sort_by("id")
    path = DeltaTable(str(tmp_path / "scores")).file_uris()[0].removeprefix("file://")
    with open(path, "r+b") as f:
        f.write(b"XXXX")
    assert committed(score("--reprocess=all", input=own_lake)) == 4
    assert read_scores(tmp_path / "scores").sort_by("id").equals(before)


@pytest.mark.parametrize(
    ("options", "dead"),
    [
        (["--forbid=nan"], [3]),
        (["--forbid=inf"], [4]),
        (["--forbid=nan,inf"], [3, 4]),
        (["--range=score=-1e9..1000"], [3, 4, 5]),
        (["--range=score=..1000", "--range=pair=0..1e30"], [3, 4, 5, 6]),
    ],
)
def test_rows_with_forbidden_outputs_are_dead_letters(score, tmp_path, options, dead):
    tf = import_tensorflow()
    model = save_function(
        tmp_path / "model",
        lambda x: {"score": 2.0 * x, "pair": tf.stack([x, tf.ones_like(x)], axis=1)},
        tf.TensorSpec([None], tf.float32, name="x"),
    )
    odd = {3: float("nan"), 4: float("-inf"), 5: 1e6, 6: -5.0}
    rows = make_rows(0, 40)
    x = [odd.get(i, value) for i, value in enumerate(rows["x"].to_pylist())]
    write_file(
        tmp_path / "lake", "date=1", "0.parquet", rows.set_column(1, "x", pa.array(x, pa.float32()))
    )
    ended = score("--max_dead_letter_ratio=0.5", *options, input=tmp_path / "lake", model=model)
    assert ended.code == 3
    letters = pq.read_table(tmp_path / "scores_dead_letters" / "date=1", partitioning=None)
    assert letters["id"].to_pylist() == dead
    assert set(letters["_step"].to_pylist()) == {"CheckOutputs"}
    assert read_scores(tmp_path / "scores").num_rows == 40 - len(dead)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--forbid=zero", "--forbid: expected nan, inf or both, got 'zero'"),
        ("--range=score=1..0", "--range: expected T=FROM..TO with FROM at most TO"),
        ("--range=score=1", "--range: expected T=FROM..TO"),
        ("--range=late=0..1", "--range late: expected an output of numbers, got no output that"),
        ("--last=0", "--last: expected a whole number of at least 1"),
    ],
)
def test_wrong_options_are_refused(score, option, told):
    ended = score(option)
    assert ended.code == 2
    assert told in ended.err
