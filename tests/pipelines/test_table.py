from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from scoreline.pipelines import score_batch, table
from tests.fakes import (
    Ended,
    assert_scored_whole,
    make_rows,
    read_scores,
    save_model,
    write_file,
    write_lake,
)
from tests.json_output import read_object


@pytest.fixture
def own_lake(tmp_path):
    return write_lake(tmp_path / "lake", days=3, rows=30)


@pytest.fixture(scope="module")
def scored_once(tmp_path_factory, model):
    """Score three partitions and one with a dead letter; return the folder of lake and table."""
    folder = tmp_path_factory.mktemp("scored")
    lake = write_lake(folder / "lake", days=3, rows=30)
    rows = make_rows(5000, 40)
    x = [None, *rows["x"].to_pylist()[1:]]
    broken = rows.set_column(1, "x", pa.array(x, pa.float32()))
    write_file(folder / "lake", "date=2024-01-04", "0.parquet", broken)
    flags = [f"--input={lake}", f"--model={model}", "--keys=id", "--max_dead_letter_ratio=0.1"]
    assert score_batch.main([*flags, f"--output={folder / 'scores'}"]) == 3
    return folder


@pytest.fixture
def scored(scored_once, own_lake, tmp_path):
    """Return a table of three partitions, one with a dead letter; its lake is `own_lake`."""
    shutil.copytree(scored_once, tmp_path, dirs_exist_ok=True)  # files keep their times
    return str(tmp_path / "scores")


@pytest.fixture
def manage(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")

    def run(command, output, *options):
        capsys.readouterr()
        code = table.main([command, f"--output={output}", *options])
        return Ended(code, *capsys.readouterr())

    return run


def states(ended):
    return {row["partition"]: row["state"] for row in json.loads(ended.out)["partitions"]}


def test_status_tells_committed_stale_missing_and_gone(scored, own_lake, manage, tmp_path):
    whole = manage("status", scored, f"--input={own_lake}", "--json")
    assert set(states(whole).values()) == {"committed"}
    rows = {row["partition"]: row for row in json.loads(whole.out)["partitions"]}
    assert rows["date=2024-01-04"]["rows_dead"] == 1
    assert rows["date=2024-01-04"]["rows_scored"] == 39
    assert rows["date=2024-01-01"]["model_digest"].startswith("sha256:")

    write_file(tmp_path / "lake", "date=2024-01-02", "late.parquet", make_rows(900, 10))
    write_file(tmp_path / "lake", "date=2024-01-05", "0.parquet", make_rows(950, 10))
    (tmp_path / "lake" / "date=2024-01-01").rename(tmp_path / "elsewhere")
    null = "date=__HIVE_DEFAULT_PARTITION__"
    write_file(tmp_path / "lake", null, "0.parquet", make_rows(970, 10))
    (tmp_path / "lake" / "README.md").write_text("about")
    assert states(manage("status", scored, f"--input={own_lake}", "--json")) == {
        null: "missing",
        "date=2024-01-01": "input gone",
        "date=2024-01-02": "stale",
        "date=2024-01-03": "committed",
        "date=2024-01-04": "committed",
        "date=2024-01-05": "missing",
    }
    text = manage("status", scored, "--partitions=date=2024-01-03..2024-01-04")
    assert "date=2024-01-03  committed" in text.out
    assert "2024-01-01" not in text.out


def test_status_remembers_a_failure_until_the_partition_is_committed(
    scored, own_lake, manage, score, tmp_path
):
    broken = tmp_path / "lake" / "date=2024-01-05" / "0.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"no parquet")
    assert score(input=own_lake).code == 1
    failed = manage("status", scored, f"--input={own_lake}", "--json")
    assert states(failed)["date=2024-01-05"] == "failed"
    assert "0.parquet cannot be read" in failed.out
    broken.unlink()
    write_file(tmp_path / "lake", "date=2024-01-05", "0.parquet", make_rows(950, 10))
    assert score(input=own_lake).code == 0
    now = manage("status", scored, f"--input={own_lake}", "--json")
    assert states(now)["date=2024-01-05"] == "committed"


def test_verify_finds_nothing_wrong_with_a_right_table(scored, manage):
    ended = manage("verify", scored)
    assert ended.code == 0
    assert "4 partitions, 4 files, 129 rows: all is right" in ended.out


def data_file(output, date):
    (path,) = (p for p in DeltaTable(output).file_uris() if f"date={date}" in p)
    return path.removeprefix("file://")


def flip(path):
    with open(path, "r+b") as f:
        f.seek(10)
        byte = f.read(1)
        f.seek(10)
        f.write(bytes([byte[0] ^ 1]))


def truncate(path):
    os.truncate(path, os.path.getsize(path) - 20)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip, "its bytes were changed"),
        (truncate, "bytes as the log says"),
        (os.remove, "cannot be read"),
    ],
)
def test_verify_names_the_file_that_is_wrong(scored, manage, damage, told):
    path = data_file(scored, "2024-01-02")
    damage(path)
    ended = manage("verify", scored)
    assert ended.code == 1
    assert f"date=2024-01-02: file {os.path.relpath(path, scored)}: " in ended.out
    assert told in ended.out
    assert "1 of 4 partitions are wrong" in ended.out
    assert manage("verify", scored, "--partitions=date=2024-01-01").code == 0


def test_verify_misses_dead_letters_that_were_removed(scored, manage, tmp_path):
    (letters,) = (tmp_path / "scores_dead_letters" / "date=2024-01-04").iterdir()
    letters.unlink()
    ended = manage("verify", scored)
    assert ended.code == 1
    assert "expected 1 dead letters as its commit says, got 0" in ended.out


def test_partition_is_rolled_back_alone_and_forth_again(scored, own_lake, manage, score, tmp_path):
    before = DeltaTable(scored).version()
    first = read_scores(scored).sort_by("id")
    other = save_model(tmp_path / "other", weight=9.0)
    assert (
        score("--max_dead_letter_ratio=0.1", "--reprocess=all", input=own_lake, model=other).code
        == 3
    )
    second = read_scores(scored).sort_by("id")
    after = DeltaTable(scored).version()

    ended = manage("rollback", scored, f"--version={before}", "--partitions=date=2024-01-04")
    assert ended.code == 0, ended.err
    mixed = {row["id"]: row["score"] for row in read_scores(scored).to_pylist()}
    old = {row["id"]: row["score"] for row in first.to_pylist()}
    new = {row["id"]: row["score"] for row in second.to_pylist()}
    assert mixed == {id_: old[id_] if id_ >= 5000 else new[id_] for id_ in new}
    assert manage("verify", scored).code == 0

    assert manage("rollback", scored, f"--version={before}").code == 0
    assert read_scores(scored).sort_by("id").equals(first)
    assert manage("verify", scored).code == 0
    assert manage("rollback", scored, f"--version={after}").code == 0
    assert read_scores(scored).sort_by("id").equals(second)
    assert manage("verify", scored).code == 0
    history = manage("history", scored, "--partitions=date=2024-01-04")
    assert f"rollback to {before}" in history.out


def test_rollback_to_files_that_are_gone_is_refused(scored, own_lake, manage, score, tmp_path):
    before = DeltaTable(scored).version()
    path = data_file(scored, "2024-01-01")
    other = save_model(tmp_path / "other", weight=9.0)
    assert (
        score("--max_dead_letter_ratio=0.1", "--reprocess=all", input=own_lake, model=other).code
        == 3
    )
    os.remove(path)
    for options in ([], ["--partitions=date=2024-01-01"]):
        ended = manage("rollback", scored, f"--version={before}", *options)
        assert ended.code == 1
        assert "1 files of that version are gone" in ended.err
    assert manage("rollback", scored, "--version=999").code == 1


def make_old(root, hours):
    then = time.time() - hours * 3600
    for folder, _, files in os.walk(root):
        for name in files:
            if "_delta_log" not in folder:
                os.utime(os.path.join(folder, name), (then, then))


def test_vacuum_removes_old_unreferenced_files(scored, own_lake, manage, score, tmp_path):
    folder = tmp_path / "scores" / "date=2024-01-01"
    stray = folder / "part-00000-0123456789abcde-00000000.parquet"
    stray.write_bytes(b"staged by a run that was killed")
    hidden = folder / ".part-0123.tmp"
    hidden.write_bytes(b"being written when it was killed")
    receipts = tmp_path / "scores" / "_scoreline" / "receipts"
    receipt = receipts / "0123456789abcde" / "00000-scores.json"
    receipt.parent.mkdir(parents=True)
    receipt.write_bytes(b"{}")
    assert "0 data files and 0 leftovers" in manage("vacuum", scored, "--apply").out
    make_old(tmp_path / "scores", 200)
    dry = manage("vacuum", scored)
    assert "2 data files and 1 leftovers older than 168 hours would be removed" in dry.out
    assert stray.exists()
    assert manage("vacuum", scored, "--apply").code == 0
    assert not any(path.exists() for path in (stray, hidden, receipt))
    assert manage("verify", scored).code == 0
    assert_scored_whole_but_one(own_lake, scored)


def assert_scored_whole_but_one(lake, output):
    with pytest.raises(AssertionError):  # only the dead letter has no score
        assert_scored_whole(lake, output)
    assert read_scores(output).num_rows == 129


def test_vacuum_without_a_grace_period_is_refused(scored, manage):
    ended = manage("vacuum", scored, "--keep_hours=0", "--apply")
    assert ended.code == 2
    assert "expected at least 1, got 0: vacuum would remove files" in ended.err


def test_every_command_prints_one_json_object_of_its_schema(scored, own_lake, manage):
    status = manage("status", scored, f"--input={own_lake}", "--json")
    assert (status.code, status.err) == (0, "")
    assert len(read_object("table_status", status.out, 0)["partitions"]) == 4

    verify = manage("verify", scored, "--json")
    found = read_object("table_verify", verify.out, 0)
    assert (found["partitions"], found["rows"], found["wrong"]) == (4, 129, [])

    history = manage("history", scored, "--limit=2", "--json")
    commits = read_object("table_history", history.out, 0)["commits"]
    newest = DeltaTable(scored).version()
    assert [commit["version"] for commit in commits] == [newest, newest]
    assert all(commit["run_id"] and commit["partition"] for commit in commits)

    day, then = commits[0]["partition"], newest - 1
    rollback = manage("rollback", scored, f"--version={then}", f"--partitions={day}", "--json")
    done = read_object("table_rollback", rollback.out, 0)
    assert done["partitions"] == [day]
    assert (done["rolled_back_to"], done["version_before"]) == (then, newest)
    assert done["table_version"] == newest + 1
    history = manage("history", scored, "--limit=1", "--json")
    (last,) = read_object("table_history", history.out, 0)["commits"]
    assert last["rolled_back_to"] == then

    vacuum = manage("vacuum", scored, "--json")
    assert read_object("table_vacuum", vacuum.out, 0)["is_applied"] is False


def test_findings_of_verify_are_in_its_json(scored, manage):
    flip(data_file(scored, "2024-01-02"))
    ended = manage("verify", scored, "--json")
    found = read_object("table_verify", ended.out, 1)
    assert found["wrong"] == ["date=2024-01-02"]
    assert "its bytes were changed" in found["problems"][0]


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        ("table_status", ["status", "--output=none"], "expected a table of scores"),
        ("table_status", ["status"], "required: --output"),
        ("table_status", ["status", "--output=x", "--inptu=s3cret"], "did you mean --input?"),
        ("table_rollback", ["rollback", "--output=x", "--version=new"], "invalid int value"),
        ("table_history", ["history", "--output=x", "--limit=0"], "expected at least 1, got 0"),
        ("table_status", ["status", "--output=x", "--version=3"], "a flag of table rollback"),
        ("table_vacuum", ["vacuum", "--output=x", "--model=s3cret"], "a flag of batch, stream, re"),
        ("table_verify", ["verify", "--output=x", "s3cret"], "expected flags only, got 1 more"),
        ("error", ["statsu", "--output=x"], "invalid choice: 'statsu'"),
        ("error", [], "required: COMMAND"),
    ],
)
def test_a_wrong_command_line_is_a_json_object_too(capsys, kind, arguments, told):
    code = table.main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert code == 2
    (problem,) = read_object(kind, out, 2)["problems"]
    assert told in problem
    assert problem in err
    assert "s3cret" not in out + err


# A flag of each action, and what it changes; `--output` selects the table, `--json` the form.
TABLE_FLAGS = {
    "status --input": "--input={input}",
    "status --partitions": "--partitions=date=2024-01-02",
    "verify --partitions": "--partitions=date=2024-01-02",
    "history --limit": "--limit=1",
    "history --partitions": "--partitions=date=2024-01-02",
    "rollback --version": "--version=0",
    "rollback --partitions": "--version=0 --partitions=date=2024-01-02",
    "vacuum --apply": "--apply",
    "vacuum --keep_hours": "--keep_hours=1",
}


def test_every_flag_of_an_action_has_a_case():
    _, actions = table._make_parsers()
    flags = {
        f"{name} {flag}"
        for name, parser in actions.items()
        for flag in parser._option_string_actions
        if flag not in ("-h", "--help", "--output", "--json")
    }
    assert flags == TABLE_FLAGS.keys()


@pytest.mark.parametrize("case", TABLE_FLAGS)
def test_a_flag_of_an_action_changes_what_it_prints(case, scored, own_lake, manage):
    action = case.partition(" ")[0]
    needed = ["--version=1"] if action == "rollback" else []
    given = TABLE_FLAGS[case].format(input=own_lake).split()
    shutil.rmtree(Path(own_lake, "date=2024-01-03"))
    assert manage(action, scored, *needed).out != manage(action, scored, *given).out


@pytest.mark.parametrize("command", ["status", "verify", "history"])
def test_no_table_is_an_error(manage, tmp_path, command):
    ended = manage(command, tmp_path / "none")
    assert ended.code == 2
    assert "expected a table of scores, got nothing" in ended.err


def test_unknown_partition_is_an_error(scored, manage):
    ended = manage("verify", scored, "--partitions=date=1999-01-01")
    assert ended.code == 2
    assert "--partitions date=1999-01-01: the table holds no such" in ended.err
