from __future__ import annotations

import json

import pyarrow as pa
import pytest

from scoreline.models.artifact import digest_model
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.pipelines import inspect_model
from tests.fakes import Ended, expected_scores, make_rows, save_model, write_file
from tests.model_zoo import save_function


@pytest.fixture
def inspect(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")

    def run(*options):
        capsys.readouterr()
        code = inspect_model.main(list(options))
        return Ended(code, *capsys.readouterr())

    return run


def test_without_a_dataset_it_describes_the_model(inspect, model):
    ended = inspect(f"--model={model}")
    assert ended.code == 0
    for told in ("SavedModel, written by TensorFlow 2.", "sha256:", "signature serving_default"):
        assert told in ended.out
    shown = [line.split() for line in ended.out.splitlines()]
    assert ["input", "x", "float32", "[None]"] in shown
    assert ["output", "pair", "float32", "[None,", "2]"] in shown


def test_with_a_dataset_it_shows_columns_and_first_scores(inspect, model, lake):
    ended = inspect(f"--model={model}", f"--input={lake}", "--fill=x=0.5", "--json")
    assert ended.code == 0
    found = json.loads(ended.out)["first_rows"]
    assert found["partition"] == "date=2024-01-01"
    assert {row["tensor"]: row["steps"] for row in found["inputs"]} == {
        "n": "",
        "s": "",
        "x": "null → 0.5",
    }
    wanted = list(expected_scores(make_rows(0, 150).slice(0, 5)).values())
    assert [row["score"] for row in found["scores"]] == pytest.approx(wanted)


def test_mismatch_comes_with_its_fix_and_nothing_is_called(inspect, model, tmp_path):
    rows = make_rows(0, 5)
    wide = rows.set_column(1, "x", rows["x"].cast(pa.float64()))
    write_file(tmp_path / "lake", "date=1", "0.parquet", wide)
    ended = inspect(f"--model={model}", f"--input={tmp_path / 'lake'}")
    assert ended.code == 2
    assert "does not fit" in ended.out
    assert "ask for the nearest value with --columns 'x=float32(x)'" in ended.out
    assert "scores of the first rows" not in ended.out
    asked = inspect(f"--model={model}", f"--input={tmp_path / 'lake'}", "--columns=x=float32(x)")
    assert asked.code == 0
    assert "float32(…)" in asked.out


def test_rows_that_would_be_dead_letters_say_why(inspect, model, tmp_path):
    rows = make_rows(0, 3)
    broken = rows.set_column(1, "x", pa.array([None, 1.0, 2.0], pa.float32()))
    write_file(tmp_path / "lake", "date=1", "0.parquet", broken)
    ended = inspect(f"--model={model}", f"--input={tmp_path / 'lake'}", "--json")
    rows_shown = json.loads(ended.out)["first_rows"]["scores"]
    assert [row["row"] for row in rows_shown] == [0, 1, 2]
    assert "null for input 'x'" in rows_shown[0]["dead"]


def test_model_that_fails_on_real_rows_exits_1(inspect, tmp_path, lake):
    strict = save_model(tmp_path / "strict", limit=1e-9)
    ended = inspect(f"--model={strict}", f"--input={lake}")
    assert ended.code == 1
    assert "The model fails: InvalidArgumentError" in ended.out


def test_examples_model_shows_its_features(inspect, zoo, tmp_path):
    rows = pa.table(
        {"a": pa.array([1.0, 2.0], pa.float32()), "b": pa.array([None, 3.0], pa.float32())}
    )
    rows = rows.append_column("c", pa.array([["x"], []], pa.list_(pa.string())))
    rows = rows.append_column("d", pa.array([None, [2]], pa.list_(pa.int64())))
    write_file(tmp_path / "lake", "date=1", "0.parquet", rows)
    ended = inspect(f"--model={zoo('examples')}", f"--input={tmp_path / 'lake'}", "--json")
    assert ended.code == 0, ended.out
    found = json.loads(ended.out)["first_rows"]
    assert [row["y"] for row in found["scores"]] == [2.0, 7.0]
    assert {row["tensor"]: row["steps"] for row in found["inputs"]}["b"] == "null → missing feature"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model=/nowhere"], "expected a SavedModel directory"),
        ([], "--model is required"),
        (["--signature=other"], "has no 'other'; it has serving_default"),
        (["--input=/nowhere"], "no such folder"),
        (["--columns=q=x"], "signature 'serving_default' has no input 'q'"),
    ],
)
def test_wrong_options_are_named(inspect, model, lake, options, told):
    given = [] if options == [] or options[0].startswith("--model") else [f"--model={model}"]
    if options and options[0].startswith("--columns"):
        given.append(f"--input={lake}")
    ended = inspect(*given, *options)
    assert ended.code == 2
    assert told in ended.err


def test_a_model_of_another_digest_is_refused_and_not_run(inspect, model, lake):
    wrong = "--model_digest=sha256:" + "0" * 64
    ended = inspect(f"--model={model}", f"--input={lake}", wrong)
    assert ended.code == 2
    assert "--model_digest: expected sha256:000" in ended.err
    assert "It was not run" in ended.err
    assert ended.out == ""
    right = f"--model_digest={digest_model(model)}"
    assert inspect(f"--model={model}", f"--input={lake}", right).code == 0


def test_bytes_that_are_no_text_are_shown_if_they_are_stored_as_bytes(
    inspect, score, tmp_path, lake
):
    tf = import_tensorflow()

    def serve(x):
        return {"raw": tf.fill(tf.shape(x), tf.constant(b"\xff\x00")), "score": x}

    model = save_function(tmp_path / "bytes", serve, tf.TensorSpec([None], tf.float32, name="x"))
    flags = ["--outputs=raw=binary(b),score"]
    ended = inspect(f"--model={model}", f"--input={lake}", "--json", *flags)
    assert ended.code == 0, ended
    assert [row["b"] for row in json.loads(ended.out)["first_rows"]["scores"]] == ["ff00"] * 5
    checked = score("--check", *flags, model=model)
    assert checked.code == 0, checked
    assert "The model fails" not in checked.out
    assert r"b b'\xff\x00'" in checked.out


def test_rows_whose_outputs_are_forbidden_are_shown_as_dead(inspect, model, lake):
    ended = inspect(f"--model={model}", f"--input={lake}", "--range=score=1e6..1e7", "--json")
    assert ended.code == 0, ended
    assert all("dead" in row for row in json.loads(ended.out)["first_rows"]["scores"])
