from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoreline.lake.table import merge
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.pipelines import replay, table
from tests.fakes import (
    Ended,
    assert_scored_whole,
    make_rows,
    read_scores,
    save_model,
    write_file,
)
from tests.inputs import to_examples, write_tfrecord
from tests.model_zoo import save_function

LIMITS = (("strict_examples", 37.5), ("mild_examples", 1e9))


def save_of_examples(path, limit):
    """Save a model of serialized tf.Examples, y = 2·a; a call with any a above a limit fails."""
    tf = import_tensorflow()

    def serve(examples):
        parsed = tf.io.parse_example(examples, {"a": tf.io.FixedLenFeature([], tf.float32)})
        with tf.control_dependencies([tf.debugging.assert_less(parsed["a"], limit)]):
            return {"y": 2.0 * parsed["a"]}

    return save_function(path, serve, tf.TensorSpec([None], tf.string, name="examples"))


@pytest.fixture
def lake(tmp_path):
    """Two days; each has one row without x and one row on which a strict model fails."""
    for day in (1, 2):
        rows = make_rows(day * 100, 40)
        x = rows["x"].to_pylist()
        x[5], x[20] = None, 50.0
        rows = rows.set_column(1, "x", pa.array(x, pa.float32()))
        write_file(tmp_path / "lake", f"date=2024-01-0{day}", "0.parquet", rows)
    return str(tmp_path / "lake")


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "strict", limit=10.0)


@pytest.fixture
def scored(score, lake, strict, tmp_path):
    assert score("--max_dead_letter_ratio=0.5", input=lake, model=strict).code == 3
    assert read_scores(tmp_path / "scores").num_rows == 76
    return str(tmp_path / "scores")


@pytest.fixture
def again(capsys, model):
    def run(output, *options, model=model):
        capsys.readouterr()
        flags = [f"--output={output}", f"--model={model}", "--keys=id", *options]
        return Ended(replay.main(flags), *capsys.readouterr())

    return run


def letters_in(output):
    root = output + "_dead_letters"
    rows = pq.read_table(root, partitioning=None, ignore_prefixes=["_", "."])
    return sorted(rows["id"].to_pylist())


def test_letters_are_scored_again_merged_and_what_is_left_is_reported(scored, again):
    ended = again(scored)
    assert ended.code == 3, ended.err
    assert "date=2024-01-01: 2 dead letters, 1 scored now, 1 left" in ended.out
    assert read_scores(scored).num_rows == 78
    assert letters_in(scored) == [105, 205]
    assert table.main(["verify", f"--output={scored}"]) == 0

    ended = again(scored, "--fill=x=0.5")
    assert ended.code == 0, ended.out
    scores = {row["id"]: row["score"] for row in read_scores(scored).to_pylist()}
    assert len(scores) == 80
    word = {"a": 1.0, "b": 2.0}
    row = make_rows(100, 40).slice(5, 1).to_pylist()[0]
    assert scores[105] == pytest.approx(1.0 + 3 * row["n"] + word.get(row["s"], 0.0))
    assert table.main(["verify", f"--output={scored}"]) == 0


def test_replaying_twice_changes_nothing(scored, again):
    assert again(scored, "--fill=x=0").code == 0
    before = read_scores(scored).sort_by("id")
    ended = again(scored, "--fill=x=0")
    assert ended.code == 0
    assert "There are no dead letters to replay." in ended.out
    assert read_scores(scored).sort_by("id").equals(before)


def test_replay_that_dies_after_its_commit_is_completed_without_adding_twice(
    scored, again, monkeypatch
):
    def die(*args):
        raise OSError("killed before the dead letters were exchanged")

    with monkeypatch.context() as patch:
        patch.setattr(merge, "_exchange", die)
        assert again(scored, "--fill=x=0").code == 1
    assert read_scores(scored).num_rows == 80
    ended = again(scored, "--fill=x=0")
    assert ended.code == 0
    assert read_scores(scored).num_rows == 80
    assert table.main(["verify", f"--output={scored}"]) == 0


def test_a_partition_that_is_scored_again_meanwhile_is_not_merged(
    scored, again, score, lake, model, monkeypatch
):
    real = replay.merge_scores

    def overtake(*args):
        assert score("--reprocess=all", "--fill=x=0", input=lake, model=model).code == 0
        return real(*args)

    monkeypatch.setattr(replay, "merge_scores", overtake)
    ended = again(scored, "--fill=x=0", "--partitions=date=2024-01-01")
    assert ended.code == 1
    assert "date=2024-01-01 was scored again meanwhile. Replay again" in ended.out
    assert read_scores(scored).num_rows == 80


def test_replayed_partition_counts_as_the_run_it_belongs_to(scored, again, score, lake, model):
    assert again(scored, "--fill=x=0").code == 0
    told = score(input=lake, model=model)
    assert "Nothing is left to do" in told.out
    assert table.main(["status", f"--output={scored}", f"--input={lake}"]) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--outputs=pair"], "expected column 'score' as no column"),
        (["--columns=x=other"], "the table has no column 'other'"),
        (["--keep=unread"], "--keep: the table has no column 'unread' (in all 2 partitions)."),
    ],
)
def test_options_that_do_not_fit_the_table_are_refused(scored, again, options, told):
    before = read_scores(scored).num_rows
    ended = again(scored, *options)
    assert ended.code == 2
    assert told in ended.err
    assert read_scores(scored).num_rows == before


def test_no_table_is_an_error(tmp_path, again):
    ended = again(str(tmp_path / "none"))
    assert ended.code == 2
    assert "expected a table of scores, got nothing" in ended.err


def test_scores_after_a_replay_equal_those_of_a_clean_run(scored, again, tmp_path):
    assert again(scored, "--fill=x=0").code == 0
    filled = tmp_path / "filled"
    for day in (1, 2):
        path = tmp_path / "lake" / f"date=2024-01-0{day}" / "0.parquet"
        rows = pq.read_table(path, partitioning=None)
        x = pa.array([0.0 if v is None else v for v in rows["x"].to_pylist()], pa.float32())
        write_file(filled, f"date=2024-01-0{day}", "0.parquet", rows.set_column(1, "x", x))
    assert_scored_whole(str(filled), scored)


def test_a_check_shows_what_would_be_added_and_writes_nothing(scored, again, tmp_path):
    def files():
        return {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}

    before = files()
    ended = again(scored, "--fill=x=0.5", "--check")
    assert ended.code == 0, ended.err
    assert "date=2024-01-01: 2 dead letters, 2 would be scored now, 0 left" in ended.out
    assert "nothing was written" in ended.out
    assert files() == before
    ended = again(scored, "--check")
    assert ended.code == 3
    assert "1 would be scored now, 1 left" in ended.out
    assert files() == before


def test_letters_of_records_go_to_a_model_of_tf_examples_as_they_are(score, again, tmp_path):
    """The dead letters of a TFRecord hold the record, in `_example`, and no feature of it."""
    rows = pa.table(
        {
            "id": pa.array(range(40), pa.int64()),
            "a": pa.array([float(i) for i in range(40)], pa.float32()),
        }
    )
    write_tfrecord(tmp_path / "taken" / "date=1" / "0.tfrecord", to_examples(rows))
    strict, mild = (save_of_examples(tmp_path / name, limit) for name, limit in LIMITS)
    output = tmp_path / "records"
    ended = score(
        "--max_dead_letter_ratio=0.5", input=tmp_path / "taken", model=strict, output=output
    )
    assert ended.code == 3, ended.err
    letters = pq.read_table(f"{output}_dead_letters/date=1", partitioning=None)
    assert letters["id"].to_pylist() == [38, 39]
    assert "a" not in letters.schema.names

    ended = again(str(output), model=mild)
    assert ended.code == 0, ended.err
    assert "date=1: 2 dead letters, 2 scored now, 0 left" in ended.out
    scores = {row["id"]: row["y"] for row in read_scores(output).to_pylist()}
    assert scores == {i: 2.0 * i for i in range(40)}
