"""The whole batch pipeline: equal to one direct call, published once, completely or not at all."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from scoreline import __version__
from scoreline.lake.files import shards
from scoreline.models import servable
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.servable import load_servable
from tests.fakes import (
    expected_scores,
    make_rows,
    read_lake,
    read_scores,
    save_model,
    write_file,
    write_lake,
)
from tests.model_zoo import save_function


def by_id(table, column="score"):
    return dict(zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_pipeline_equals_one_direct_call_by_key(tmp_path, score, model, monkeypatch, workers):
    monkeypatch.setattr(shards, "SHARD_ROWS", 200)
    root = write_lake(tmp_path / "lake", days=3, rows=1000, row_group_size=100)
    rows = read_lake(root)

    ended = score("--batch_rows=64", input=root, workers=workers)

    assert ended.code == 0, ended
    scores = read_scores(tmp_path / "scores")
    files = DeltaTable(str(tmp_path / "scores")).file_uris()
    # The case is not trivial: several partitions, shards per partition, and batches per shard.
    assert len(set(scores["date"].to_pylist())) == 3
    assert len(files) == 3 * 5
    assert rows.num_rows // len(files) // 64 >= 3
    loaded = load_servable(model)
    columns = {name: rows[name].combine_chunks() for name in ("x", "n", "s")}
    direct = loaded.predict(columns, rows.num_rows)
    assert scores.num_rows == rows.num_rows
    got = by_id(scores)
    wanted = dict(zip(rows["id"].to_pylist(), direct["score"].to_pylist(), strict=True))
    assert got.keys() == wanted.keys()
    np.testing.assert_allclose([got[i] for i in wanted], list(wanted.values()), rtol=1e-6)
    pairs = by_id(scores, "pair")
    assert all(pairs[i][0] == got[i] for i in got)


def test_output_has_keys_kept_columns_outputs_digest_and_partition_in_this_order(score, tmp_path):
    ended = score("--keep=s,unread", "--outputs=pair=both,score")

    assert ended.code == 0, ended
    scores = read_scores(tmp_path / "scores")
    assert scores.schema.names == ["id", "s", "unread", "both", "score", "model_digest", "date"]
    assert scores["model_digest"].unique().to_pylist()[0].startswith("sha256:")
    assert scores["unread"].unique().to_pylist() == ["…"]


def test_second_run_has_nothing_left_to_do_and_writes_nothing(score, tmp_path):
    assert score().code == 0
    version = DeltaTable(str(tmp_path / "scores")).version()

    ended = score()

    assert ended.code == 0
    assert "Nothing is left to do: all 3 partitions are committed" in ended.out
    assert DeltaTable(str(tmp_path / "scores")).version() == version


def test_only_partitions_that_changed_are_scored_again(score, tmp_path):
    root = write_lake(tmp_path / "lake")
    assert score(input=root).code == 0
    changed = make_rows(5000, 40)
    write_file(tmp_path / "lake", "date=2024-01-02", "1.parquet", changed)

    waiting = score(input=root)
    assert "1 of them were scored with another model, input or configuration" in waiting.out
    ended = score("--reprocess=stale", input=root)

    assert ended.code == 0
    assert "1 committed" in ended.out
    assert by_id(read_scores(tmp_path / "scores")).keys() == set(read_lake(root)["id"].to_pylist())


def test_another_model_overwrites_exactly_the_partitions_asked_for(score, tmp_path, model):
    assert score().code == 0
    other = save_model(tmp_path / "other", weight=5.0)

    ended = score("--reprocess=all", "--partitions=date=2024-01-02..2024-01-03", model=other)

    assert ended.code == 0, ended
    scores = read_scores(tmp_path / "scores")
    digests = {
        date: scores.filter(pa.compute.equal(scores["date"], date))["model_digest"]
        .unique()
        .to_pylist()
        for date in ("2024-01-01", "2024-01-02", "2024-01-03")
    }
    assert digests["2024-01-01"] != digests["2024-01-02"] == digests["2024-01-03"]
    assert all(len(found) == 1 for found in digests.values())
    assert scores.num_rows == 900


def test_commit_records_what_was_scored_with_what(score, tmp_path):
    assert score("--partitions=date=2024-01-01").code == 0

    commit = DeltaTable(str(tmp_path / "scores")).history(1)[0]

    assert commit["scoreline.partition"] == "date=2024-01-01"
    assert commit["scoreline.rows_in"] == commit["scoreline.rows_scored"] == "300"
    assert commit["scoreline.rows_dead"] == "0"
    assert commit["scoreline.signature"] == "serving_default"
    assert commit["scoreline.model_digest"].startswith("sha256:")
    assert len(commit["scoreline.input_fingerprint"]) == 32
    assert commit["scoreline.tool_version"] == __version__


def test_a_null_costs_only_its_row_and_the_exit_code_shows_it(score, tmp_path):
    rows = make_rows(0, 300)
    x = rows["x"].to_pylist()
    x[7] = None
    rows = rows.set_column(1, "x", pa.array(x, pa.float32()))
    write_file(tmp_path / "lake", "date=2024-01-01", "0.parquet", rows)

    ended = score("--keep=s", input=tmp_path / "lake")

    assert ended.code == 3
    assert "dead letters  1 in" in ended.out
    scores = read_scores(tmp_path / "scores")
    assert set(range(300)) - set(scores["id"].to_pylist()) == {7}
    letters = pq.read_table(tmp_path / "scores_dead_letters" / "date=2024-01-01", partitioning=None)
    letter = letters.to_pylist()[0]
    assert letter["id"] == letter["_file_row"] == 7
    assert letter["_step"] == "BuildFeatures"
    assert "null for input 'x' (column 'x')" in letter["_reason"]
    assert "--fill x=VALUE" in letter["_reason"]
    assert letter["_file"].endswith("date=2024-01-01/0.parquet")


def test_fill_value_stands_in_for_nulls(score, tmp_path):
    rows = pa.table(
        {
            "id": [0, 1, 2],
            "x": pa.array([1.0, None, 3.0], pa.float32()),
            "n": [1, 1, 1],
            "s": ["a", None, "b"],
        }
    )
    write_file(tmp_path / "lake", "date=2024-01-01", "0.parquet", rows)

    ended = score("--fill=x=10", "--fill=s=b", input=tmp_path / "lake")

    assert ended.code == 0, ended
    assert by_id(read_scores(tmp_path / "scores")) == {0: 6.0, 1: 25.0, 2: 11.0}


def test_a_row_that_fails_in_the_model_is_the_only_dead_letter(score, tmp_path):
    model = save_model(tmp_path / "strict", limit=100.0)
    rows = make_rows(0, 300)
    x = rows["x"].to_pylist()
    x[150] = 1e6
    rows = rows.set_column(1, "x", pa.array(x, pa.float32()))
    write_file(tmp_path / "lake", "date=2024-01-01", "0.parquet", rows)

    ended = score(
        "--batch_rows=100", "--max_dead_letter_ratio=0.5", model=model, input=tmp_path / "lake"
    )

    assert ended.code == 3
    assert read_scores(tmp_path / "scores").num_rows == 299
    letters = pq.read_table(tmp_path / "scores_dead_letters" / "date=2024-01-01", partitioning=None)
    assert letters["id"].to_pylist() == [150]
    assert set(letters["_step"].to_pylist()) == {"Predict"}
    assert all("InvalidArgumentError" in reason for reason in letters["_reason"].to_pylist())


def test_partition_with_too_many_dead_letters_keeps_its_old_scores(score, tmp_path):
    root = write_lake(tmp_path / "lake", days=2)
    assert score(input=root).code == 0
    before = read_scores(tmp_path / "scores")
    strict = save_model(tmp_path / "strict", limit=-1.0 + 1e-9 + 1.0)  # warm-up passes, rows do not

    ended = score("--reprocess=all", input=root, model=strict)

    assert ended.code == 1
    assert "300 of 300 rows are dead letters, more than --max_dead_letter_ratio 0.01" in ended.out
    assert read_scores(tmp_path / "scores").sort_by("id") == before.sort_by("id")


def test_duplicate_keys_are_allowed_and_counted(score, tmp_path):
    table = pa.concat_tables([make_rows(0, 100), make_rows(0, 40)])
    write_file(tmp_path / "lake", "date=2024-01-01", "0.parquet", table)

    ended = score(input=tmp_path / "lake")

    assert ended.code == 0
    assert "duplicate keys  40 rows repeat the key of another" in ended.out
    assert read_scores(tmp_path / "scores").num_rows == 140


def test_empty_partitions_and_files_are_published_as_empty(score, tmp_path):
    root = write_lake(tmp_path / "lake", days=1)
    (tmp_path / "lake" / "date=2024-01-02").mkdir()
    write_file(tmp_path / "lake", "date=2024-01-03", "0.parquet", make_rows(0, 0))

    ended = score(input=root)

    assert ended.code == 0, ended
    assert "3 committed" in ended.out
    assert set(read_scores(tmp_path / "scores")["date"].to_pylist()) == {"2024-01-01"}
    assert "Nothing is left to do: all 3 partitions" in score(input=root).out


def test_several_partition_columns_and_odd_values(score, tmp_path):
    folders = ["region=a%2Fb/date=1", "region=a b/date=1", "region=../date=2", "region=ü/date=%3D"]
    for number, folder in enumerate(folders):
        write_file(tmp_path / "lake", folder, "0.parquet", make_rows(number * 10, 10))

    ended = score(input=tmp_path / "lake")

    assert ended.code == 0, ended
    scores = read_scores(tmp_path / "scores")
    found = {(r["region"], r["date"]): r["id"] // 10 for r in scores.to_pylist()}
    assert found == {("a/b", "1"): 0, ("a b", "1"): 1, ("..", "2"): 2, ("ü", "="): 3}
    everything = [p for p in tmp_path.rglob("*.parquet") if "lake" not in p.parts]
    assert all((tmp_path / "scores") in p.parents for p in everything)
    assert "Nothing is left to do: all 4" in score(input=tmp_path / "lake").out
    ended = score("--partitions=region=a%2Fb/date=1", input=tmp_path / "lake")
    assert "Nothing is left to do: all 1 " in ended.out


def test_model_that_was_checked_is_the_one_that_scores(score, monkeypatch):
    loads = []
    real = servable.load_servable

    def load(*args, **options):
        loads.append(args)
        return real(*args, **options)

    servable._in_use.clear()
    monkeypatch.setattr(servable, "load_servable", load)
    assert score(workers=2).code == 0
    assert len(loads) == 1


def test_check_prints_the_plan_and_the_first_scores_and_writes_nothing(score, tmp_path, lake):
    ended = score("--check")

    assert ended.code == 0, ended
    assert "900 in 3 shards" in ended.out
    assert "date=2024-01-01 … date=2024-01-03" in ended.out
    assert "s string [None] ← s" in ended.out
    assert "score float" in ended.out
    assert "fed from date=2024-01-01" in ended.out
    first = expected_scores(read_lake(lake))
    rows = ended.out.partition("scores of the first rows")[2].strip().splitlines()
    assert len(rows) == 5
    assert f"score {first[0]:.6g}" in rows[0]
    assert not (tmp_path / "scores").exists()


def test_check_fails_when_the_model_fails_on_the_first_rows(score, tmp_path):
    tf = import_tensorflow()

    def serve(a):
        tf.debugging.assert_less(a, 2.0, "too large")
        return {"y": a}

    spec = tf.TensorSpec([None], tf.float32, name="a")
    model = save_function(tmp_path / "model", serve, spec)
    rows = pa.table({"id": [1], "a": pa.array([3.0], pa.float32())})
    write_file(tmp_path / "lake", "date=1", "0.parquet", rows)
    ended = score("--check", model=model, input=tmp_path / "lake")
    assert ended.code == 1
    assert "The model fails: InvalidArgumentError" in ended.out
    assert "too large" in ended.out


def test_expected_scores_of_the_fake_model_are_those_of_the_model(score, tmp_path, lake):
    assert score().code == 0
    wanted = expected_scores(read_lake(lake))
    got = by_id(read_scores(tmp_path / "scores"))
    np.testing.assert_allclose([got[i] for i in wanted], list(wanted.values()), rtol=1e-6)
