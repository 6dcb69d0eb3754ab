"""`--json`: one object on stdout that its schema in docs/schemas describes, all else on stderr."""

from __future__ import annotations

import json

import jsonschema
import pyarrow as pa
import pytest

from scoreline.pipelines import command, inspect_model, replay, score_batch
from scoreline.pipelines.options.commands import COMMANDS
from scoreline.pipelines.report.reporter import Reporter
from tests.fakes import Ended, make_rows, save_model, write_file, write_lake
from tests.json_output import SCHEMAS, read_object, read_schema


@pytest.fixture
def run(capsys):
    """Return a function that runs a command with --json and returns its object."""

    def call(module, kind, *args, code=0):
        capsys.readouterr()
        ended = Ended(module.main([*map(str, args), "--json"]), *capsys.readouterr())
        assert ended.code == code, ended
        return read_object(kind, ended.out, code)

    return call


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_a_schema_is_a_schema_and_names_itself(path):
    schema = json.loads(path.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith(f"/{path.name}")
    kind, version = path.stem.split("-")
    assert schema["properties"]["schema"] == {"const": f"scoreline.{kind}/{version}"}


def test_every_command_has_a_schema():
    kinds = {path.stem.removesuffix("-1") for path in SCHEMAS.glob("*-1.json")}
    actions = {f"table_{name}" for name in ("status", "verify", "history", "rollback", "vacuum")}
    commands = {name.replace("-", "_") for name in COMMANDS}
    assert kinds == {*commands, "batch_check", "stream_check", "error", *actions}


def test_a_result_that_lacks_a_field_breaks_its_schema():
    """Else the tests here would prove nothing."""
    document = {"schema": "scoreline.batch/1", "version": "1", "exit_code": 0, "problems": []}
    with pytest.raises(jsonschema.ValidationError, match="'output' is a required property"):
        jsonschema.validate(document, read_schema("batch"))
    jsonschema.validate({**document, "exit_code": 2}, read_schema("batch"))


def test_batch_and_its_check_and_a_second_run(run, model, lake, tmp_path):
    scoring = [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={tmp_path / 's'}"]
    plan = run(score_batch, "batch_check", *scoring, "--check")
    assert len(plan["partitions"]) == 3
    assert plan["rows"] == 900
    assert {"name": "date", "type": "string"} in plan["columns"]
    assert [row["row"] for row in plan["first_rows"]["scores"]] == [0, 1, 2, 3, 4]
    assert not (tmp_path / "s").exists()

    done = run(score_batch, "batch", *scoring)
    assert (done["rows_in"], done["rows_scored"], done["rows_dead"]) == (900, 900, 0)
    assert {part["state"] for part in done["partitions"]} == {"committed"}
    assert done["model_digest"] == plan["model_digest"]
    assert done["step_ms"]["predict"] >= 0

    again = run(score_batch, "batch", *scoring)
    assert (again["partitions"], again["committed_before"]) == ([], 3)
    nothing = run(score_batch, "batch_check", *scoring, "--check")
    assert nothing["partitions"] == []


def test_dead_letters_a_failed_partition_and_their_replay(run, model, tmp_path):
    lake = write_lake(tmp_path / "lake", days=1, rows=30)
    rows = make_rows(5000, 10)
    holes = pa.array([None, *[1.0] * 9], pa.float32())
    write_file(tmp_path / "lake", "date=2024-01-02", "0.parquet", rows.set_column(1, "x", holes))
    table = [f"--model={model}", "--keys=id", f"--output={tmp_path / 's'}"]
    scoring = [*table, f"--input={lake}", "--max_dead_letter_ratio=0.5"]
    assert run(score_batch, "batch", *scoring, code=3)["rows_dead"] == 1

    (tmp_path / "lake" / "date=2024-01-03").mkdir()
    (tmp_path / "lake" / "date=2024-01-03" / "0.parquet").write_bytes(b"no parquet")
    failed = run(score_batch, "batch", *scoring, code=1)
    assert "date=2024-01-03 failed" in failed["problems"][0]
    (outcome,) = failed["partitions"]
    assert (outcome["partition"], outcome["state"]) == ("date=2024-01-03", "failed")

    left = run(replay, "replay", *table, code=3)
    assert [(part["letters"], part["left"]) for part in left["partitions"]] == [(1, 1)]
    assert run(replay, "replay", *table, "--fill=x=1", "--check")["is_check"] is True
    fixed = run(replay, "replay", *table, "--fill=x=1")
    assert [(part["added"], part["left"]) for part in fixed["partitions"]] == [(1, 0)]


def test_inspection_with_numbers_that_json_does_not_know(run, tmp_path):
    rows = make_rows(0, 3)
    large = pa.array([10.0, -10.0, 0.0], pa.float32())
    write_file(tmp_path / "lake", "date=2024-01-01", "0.parquet", rows.set_column(1, "x", large))
    model = save_model(tmp_path / "model", weight=1e38)
    found = run(inspect_model, "inspect", f"--model={model}", f"--input={tmp_path / 'lake'}")
    assert found["model"]["signatures"][0]["outputs"].keys() == {"pair", "score"}
    first, second, _ = (row["score"] for row in found["first_rows"]["scores"])
    assert (first, second) == ("inf", "-inf")


def test_columns_that_do_not_fit_are_problems_of_the_inspection(run, model, tmp_path):
    rows = make_rows(0, 3).drop_columns(["x"])
    write_file(tmp_path / "lake", "date=2024-01-01", "0.parquet", rows)
    args = [f"--model={model}", f"--input={tmp_path / 'lake'}"]
    found = run(inspect_model, "inspect", *args, code=2)
    assert any("'x'" in problem for problem in found["problems"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_command_line_is_an_object_too(name, capsys):
    assert command.run(name, ["--nonsense=s3cret", "--json"]) == 2
    out, err = capsys.readouterr()
    problems = read_object(name.replace("-", "_"), out, 2)["problems"]
    assert "unknown option --nonsense" in problems
    assert all(problem in err for problem in problems)
    assert "s3cret" not in out + err


def test_what_is_wrong_with_the_input_is_in_the_object(run, model, tmp_path):
    args = [f"--input={tmp_path / 'none'}", f"--model={model}", "--keys=id", "--output=s"]
    found = run(score_batch, "batch", *args, code=2)
    assert any(problem.startswith("--input") for problem in found["problems"])


def test_a_supervised_stream_prints_no_object_for_each_start(capsys):
    given = ["--brokers=h:1", "--topic=t", "--group=g", "--model=m", "--keys=id"]
    assert command.run("stream", [*given, "--output_topic=o", "--restart", "--json"]) == 2
    (problem,) = read_object("stream", capsys.readouterr().out, 2)["problems"]
    assert "--restart restarts it" in problem


def test_a_person_gets_text_and_a_program_gets_no_text(capsys):
    for as_json in (False, True):
        reporter = Reporter("error", as_json=as_json)
        reporter.tell("a sentence")
        assert reporter.end(2, problems=["one", "two"], advice="Look.") == 2
        out, err = capsys.readouterr()
        assert err == "2 things are wrong:\none\ntwo\nLook.\n"
        assert (out == "a sentence\n") is not as_json
    assert read_object("error", out, 2)["problems"] == ["one", "two"]
