"""The purity check in every command: an impure model is refused before anything is written."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from scoreline.lake.table.log import read_commits
from scoreline.pipelines import inspect_model, replay, score_batch, table
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.plan.purity import first_rows
from scoreline.pipelines.score_batch import prepare
from tests.fakes import Ended, read_scores, write_file
from tests.impure_models import tf
from tests.inputs import FORMATS, flags_of, write_dataset
from tests.model_zoo import save_function

REASON = "agreed with the risk team"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A model that subtracts the mean of its call, and three days of rows with a null."""
    root = tmp_path_factory.mktemp("impure")

    def serve(x):
        return {"score": x - tf.reduce_mean(x)}

    save_function(root / "model", serve, tf.TensorSpec([None], tf.float32, name="x"))
    for day in range(3):
        x = [float(10 * day + i) for i in range(4)]
        rows = pa.table({"id": range(4 * day, 4 * day + 4), "x": pa.array([None, *x[1:]], "f4")})
        write_file(root / "lake", f"date=2024-01-0{day + 1}", "0.parquet", rows)
    return root


def flags(places, output, *more):
    return [
        *(f"--input={places / 'lake'}", f"--model={places / 'model'}", "--keys=id"),
        *(f"--output={output}", "--max_dead_letter_ratio=1", *more),
    ]


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")

    def run(module, argv):
        capsys.readouterr()
        code = module.main(argv)
        return Ended(code, *capsys.readouterr())

    return run


@pytest.mark.parametrize("more", [(), ("--check",)], ids=["job", "check"])
def test_batch_refuses_an_impure_model_before_the_first_row(places, tmp_path, run, more):
    ended = run(score_batch, flags(places, tmp_path / "scores", *more))
    assert ended.code == 2
    assert "rows of a call influence each other: output 'score' of the row id=" in " ".join(
        ended.err.split()
    )
    assert not (tmp_path / "scores").exists()


def test_a_reason_goes_on_and_every_commit_tells_it(places, tmp_path, run):
    output = tmp_path / "scores"
    ended = run(score_batch, flags(places, output, f"--allow_impure={REASON}"))
    assert ended.code == 3
    assert f"Allowed: {REASON}" in " ".join(ended.out.split())
    again = [f"--output={output}", f"--model={places / 'model'}", "--keys=id", "--fill=x=0"]
    refused = run(replay, again)
    assert refused.code == 0, "a single letter of each partition shows no influence"
    assert read_scores(output).num_rows == 12
    commits = [c for c in read_commits(DeltaTable(str(output))) if "partition" in c]
    assert len(commits) == 6
    for commit in commits:
        assert commit["allow_impure"] == REASON
        assert "influence each other" in commit["impurity"]
    history = json.loads(run(table, ["history", f"--output={output}", "--json"]).out)
    told = [commit["allow_impure"] for commit in history["commits"] if commit["partition"]]
    assert told == [REASON] * 6
    status = run(table, ["status", f"--output={output}"])
    assert status.out.count(f"impure model allowed: {REASON}") == 3


def test_inspect_shows_what_is_impure_and_takes_a_reason(places, run):
    argv = [f"--model={places / 'model'}", f"--input={places / 'lake'}"]
    ended = run(inspect_model, [*argv, "--json"])
    shown = json.loads(ended.out)
    assert ended.code == shown["exit_code"] == 2
    assert shown["first_rows"]["purity"]["rows"] == 3
    (problem,) = shown["problems"]
    assert problem == shown["first_rows"]["purity"]["problem"]
    assert run(inspect_model, [*argv, f"--allow_impure={REASON}"]).code == 0


def test_a_check_of_a_pure_model_tells_how_many_rows_it_saw(model, lake, tmp_path, run):
    argv = [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={tmp_path / 's'}"]
    shown = " ".join(run(score_batch, [*argv, "--check"]).out.split())
    assert re.search(r"purity: \d+ rows have the same scores together, alone, reversed", shown)


def test_the_first_rows_come_from_several_files_and_not_from_broken_ones(places, tmp_path):
    for day in (1, 2, 3):
        for path in (places / "lake" / f"date=2024-01-0{day}").iterdir():
            target = tmp_path / "lake" / path.parent.name / path.name
            target.parent.mkdir(parents=True)
            target.write_bytes(path.read_bytes())
    broken = tmp_path / "lake" / "date=2024-01-01" / "0.parquet"
    argv = [f"--input={tmp_path / 'lake'}", f"--model={places / 'model'}", "--keys=id"]
    plan = prepare([*argv, f"--output={tmp_path / 's'}", "--allow_impure=x"]).found.plan
    assert first_rows(plan)["id"].to_pylist() == list(range(12))
    data = bytearray(broken.read_bytes())
    data[4:60] = bytes(56)
    broken.write_bytes(bytes(data))
    assert set(first_rows(plan)["id"].to_pylist()) >= set(range(4, 12))


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_check_reads_the_first_rows_of_every_format(suffix, places, tmp_path):
    lake, _ = write_dataset(tmp_path / "lake", suffix, days=1, rows=40, files=1)
    argv = [f"--input={lake}", f"--model={places / 'model'}", "--keys=id", *flags_of(suffix)]
    with pytest.raises(BadOptions, match="output 'score' of the row id=") as refused:
        prepare([*argv, f"--output={tmp_path / 's'}"])
    assert refused.value.exit_code == 2


def test_an_empty_reason_is_refused(places, tmp_path):
    with pytest.raises(BadOptions, match="--allow_impure: expected a reason"):
        prepare(flags(places, tmp_path / "s", "--allow_impure= "))


def test_replay_refuses_an_impure_model_too(places, tmp_path, run):
    rows = pa.table({"id": range(9), "x": pa.array([None] * 8 + [1.0], "f4")})
    write_file(tmp_path / "lake", "date=2024-01-01", "0.parquet", rows)
    output = tmp_path / "scores"
    argv = [f"--model={places / 'model'}", "--keys=id", f"--output={output}"]
    ran = run(score_batch, [*argv, f"--input={tmp_path / 'lake'}", "--max_dead_letter_ratio=1"])
    assert ran.code == 3, "one row alone has no neighbours"
    before = DeltaTable(str(output)).version()

    # The letters have equal values after --fill, so that a model with a state must be found.
    def serve(x):
        return {"score": x + count.assign_add(1.0)}

    count = tf.Variable(0.0)
    module = tf.Module()
    module.count = count
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(module, str(tmp_path / "counter"), signatures=module.serve)
    argv = [f"--model={tmp_path / 'counter'}", "--keys=id", f"--output={output}", "--fill=x=0"]
    ended = run(replay, argv)
    assert ended.code == 2
    assert "the model carries a state from call to call" in " ".join(ended.err.split())
    assert DeltaTable(str(output)).version() == before
