"""Tables of Scoreline 0.2, whose folders had `_` in place of `%`, stay as they are and complete.

`old_layout` was written by Scoreline 0.2: three rows each for p = "a b", "a/b", "a_20b" and
"plain". "a b" and "a_20b" share a folder. "a b" was scored twice, each time with one dead letter.
A run was killed when "R&D" was staged.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from urllib.parse import quote

import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from scoreline.lake.elements import Shard
from scoreline.lake.table.history import read_live_partitions
from scoreline.lake.table.receipts import find_receipts
from scoreline.lake.table.scores import create_table
from scoreline.pipelines import replay, table
from tests.fakes import make_rows, read_scores, write_file
from tests.lake.table.test_scores import SCHEMA, commit_partition, spec_of, stage

OLD = Path(__file__).parent / "old_layout"
IDS = {"a b": [1, 2], "a/b": [10, 11, 12], "a_20b": [20, 21, 22], "plain": [30, 31, 32]}


@pytest.fixture
def old(tmp_path):
    """Return a copy of the table that a test may change."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    return str(tmp_path / "scores")


@pytest.fixture
def old_lake(tmp_path):
    """Return the input of the old table, with "R&D"."""
    for first, value in enumerate([*IDS, "R&D"]):
        rows = make_rows(10 * first, 3)
        if value == "a b":
            rows = rows.set_column(1, "x", pa.array([None, 1.0, 2.0], pa.float32()))
        write_file(tmp_path / "lake", f"p={quote(value, safe='')}", "0.parquet", rows)
    return str(tmp_path / "lake")


def run(command, output, *flags):
    return table.main([command, f"--output={output}", *flags])


def held(output):
    """Return the ids of each partition, by value."""
    found = {}
    for row in read_scores(output).to_pylist():
        found.setdefault(row["p"], []).append(row["id"])
    return {value: sorted(ids) for value, ids in found.items()}


def letters_in(output):
    root = Path(output + "_dead_letters")
    return {str(path.parent.relative_to(root)) for path in root.rglob("*.parquet")}


def test_status_verify_and_history_of_an_old_table_are_as_before(old, capsys):
    assert run("status", old, "--json") == 0
    found = json.loads(capsys.readouterr().out)["partitions"]
    assert {(row["partition"], row["state"], row["rows_scored"]) for row in found} == {
        ("p=a%20b", "committed", 2),
        ("p=a%2Fb", "committed", 3),
        ("p=a_20b", "committed", 3),
        ("p=plain", "committed", 3),
    }
    assert run("verify", old) == 0
    assert run("history", old) == 0
    assert held(old) == IDS


def test_an_old_version_comes_back_with_its_dead_letters(old):
    before = read_scores(old).sort_by("id")
    assert run("rollback", old, "--version=4", "--partitions=p=a%20b") == 0
    assert run("verify", old) == 0
    assert letters_in(old) == {"_replaced", "p=a%20b"}
    assert not read_scores(old).sort_by("id").equals(before)
    assert held(old) == IDS
    assert run("rollback", old, "--version=5") == 0
    assert run("verify", old) == 0
    assert read_scores(old).sort_by("id").equals(before)


def make_old(root):
    then = time.time() - 1000 * 3600
    for path in Path(root).parent.rglob("*.*"):
        if path.is_file():
            os.utime(path, (then, then))


def test_vacuum_keeps_the_live_files_of_old_folders(old):
    live = {uri for uri in DeltaTable(old).file_uris() if os.path.exists(uri)}
    assert len(live) == 4
    make_old(old)
    assert run("vacuum", old, "--keep_hours=1", "--apply") == 0
    assert {uri for uri in live if os.path.exists(uri)} == live
    # The staged file and the receipt of the killed run are removed.
    assert not list(Path(old).glob("p=R_26D/*"))
    assert not list(Path(old).glob("_scoreline/receipts/*/*"))
    assert run("verify", old) == 0
    assert held(old) == IDS


def test_a_rerun_completes_an_old_table_and_reprocessing_moves_it(old, old_lake, score):
    flags = ["--max_dead_letter_ratio=0.5"]
    before = DeltaTable(old)
    assert score(*flags, input=old_lake, output=old).code == 0
    now = DeltaTable(old)
    assert now.version() == before.version() + 1  # "R&D" only
    assert set(now.file_uris()) > set(before.file_uris())
    assert held(old) == {**IDS, "R&D": [40, 41, 42]}

    assert score(*flags, "--reprocess=all", input=old_lake, output=old).code == 3
    assert held(old) == {**IDS, "R&D": [40, 41, 42]}
    values = dict(polars.read_delta(old).select("id", "p").iter_rows())
    assert values == {id_: value for value, ids in held(old).items() for id_ in ids}
    assert run("verify", old) == 0
    assert letters_in(old) == {"_replaced", "p=a%20b"}


def test_old_dead_letters_are_replayed_once(old, model):
    flags = [f"--output={old}", f"--model={model}", "--keys=id", "--fill=x=0.5"]
    assert replay.main(flags) == 0
    assert held(old) == {**IDS, "a b": [0, 1, 2]}
    assert letters_in(old) == {"_replaced"}
    assert replay.main(flags) == 0
    assert held(old) == {**IDS, "a b": [0, 1, 2]}
    assert run("verify", old) == 0


def test_a_shard_that_was_staged_in_an_old_folder_is_scored_again(old):
    (folder,) = Path(old, "_scoreline", "receipts").iterdir()
    shard = Shard("p=R%26D", folder.name, "", 0, 1, [], 3)
    assert find_receipts(old, shard) == []
    plain = shard._replace(partition="p=R_26D")  # its folder is the same in both layouts
    assert [receipt.rows_scored for receipt in find_receipts(old, plain)] == [3]


def test_the_same_work_moves_to_its_new_folder_when_it_is_repeated(tmp_path):
    output = str(tmp_path / "scores")
    create_table(output, SCHEMA, ["date"])
    receipt = stage(output, [1], "date=a%20b")
    os.rename(f"{output}/date=a%20b", f"{output}/date=a_20b")
    former = receipt._replace(path=receipt.path.replace("%", "_"))
    assert commit_partition([former], spec_of(output)).version == 1
    again = stage(output, [1], "date=a%20b", base=receipt.run_id)
    assert os.path.basename(again.path) == os.path.basename(former.path)
    assert commit_partition([again], spec_of(output)).version == 2
    assert commit_partition([again], spec_of(output)).version == 2
    (live,) = read_live_partitions(DeltaTable(output))
    assert [file.path for file in live.files] == [again.path]
