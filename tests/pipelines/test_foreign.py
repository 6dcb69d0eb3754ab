"""Changes by other programs are reported: `verify` names the operation, and checks no score."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from scoreline.lake.table.rollback import rollback_partition, rollback_table
from scoreline.lake.table.scores import FOREIGN_RUN, committed_run, create_table
from scoreline.pipelines import table
from tests.fakes import write_file
from tests.json_output import read_object
from tests.lake.table.test_scores import SCHEMA, commit_partition, spec_of, stage

RUN = "1" * 15
NEXT_RUN = "2" * 15
COMMITTED = 2  # the version when both partitions are committed


def spec(output):
    metadata = {"model_digest": f"sha256:{'1' * 64}", "job_id": "job"}
    return spec_of(output)._replace(metadata=metadata)


@pytest.fixture(params=["scores"])
def output(request, tmp_path):
    """Return a table of two partitions, each with two files of two rows."""
    path = str(tmp_path / request.param)
    create_table(path, SCHEMA, ["date"])
    for day in ("1", "2"):
        receipts = [
            stage(path, [2 * n, 2 * n + 1], f"date={day}", RUN, number=n, shards=2)
            for n in range(2)
        ]
        assert commit_partition(receipts, spec(path)).state == "committed"
    return path


def rows_of(ids, score=7.0, day="1"):
    scores = pa.array([score] * len(ids), pa.float32())
    return pa.table({"id": pa.array(ids, pa.int64()), "score": scores, "date": [day] * len(ids)})


def update(output):
    DeltaTable(output).update(updates={"score": "9.0"}, predicate="date = '1'")


def update_one_file(output):
    DeltaTable(output).update(updates={"score": "9.0"}, predicate="date = '1' and id = 0")


def delete_a_row(output):
    DeltaTable(output).delete("date = '1' and id = 0")


def delete_a_file(output):
    DeltaTable(output).delete("date = '1' and id < 2")


def merge(output, ids=(0, 3)):
    merging = DeltaTable(output).merge(
        rows_of(list(ids)),
        "t.id = s.id and t.date = s.date and t.date = '1'",
        source_alias="s",
        target_alias="t",
    )
    merging.when_matched_update_all().when_not_matched_insert_all().execute()


def merge_a_new_row(output):
    merge(output, ids=(0, 9))


def overwrite(output):
    write_deltalake(output, rows_of([0, 1, 2, 3]), mode="overwrite", predicate="date = '1'")


def update_and_compact(output):
    update(output)
    DeltaTable(output).optimize.compact()


@pytest.fixture
def manage(capsys):
    def run(command, output, *flags):
        capsys.readouterr()
        code = table.main([command, f"--output={output}", "--json", *flags])
        return read_object(f"table_{command}", capsys.readouterr().out, code)

    return run


def states(found):
    return {row["partition"]: (row["state"], row["note"]) for row in found["partitions"]}


@pytest.mark.parametrize(
    ("change", "operation", "rows"),
    [
        (update, "UPDATE", 4),
        (update_one_file, "UPDATE", 4),
        (delete_a_row, "DELETE", 3),
        (delete_a_file, "DELETE", 2),
        (merge, "MERGE", 4),
        (merge_a_new_row, "MERGE", 5),
        (overwrite, "WRITE", 4),
        (update_and_compact, "UPDATE", 4),
    ],
)
def test_changed_rows_are_reported_with_the_operation(output, manage, change, operation, rows):
    change(output)
    found = manage("verify", output)
    assert found["unchecked"][0] == "date=1"
    told = found["remarks"][0]
    assert told.startswith("date=1: its rows were changed by another program (")
    assert f"{operation} in version {COMMITTED + 1}" in told
    assert told.endswith("the scores are not checked")
    # A number of rows that is not that of the commit is wrong, whoever changed it.
    assert found["exit_code"] == (0 if rows == 4 else 1)
    state, note = states(manage("status", output))["date=1"]
    assert state == "changed"
    assert note == f"another program changed its rows: {operation} in version {COMMITTED + 1}"
    # It is still the partition of its run: the next run does not undo the change unasked.
    assert committed_run(DeltaTable(output), "date=1") == RUN
    assert states(manage("status", output))["date=2"] == ("committed", "")


def test_rows_that_were_added_make_a_partition_foreign(output, manage):
    write_deltalake(output, rows_of([9]), mode="append")
    found = manage("verify", output)
    assert found["unchecked"] == ["date=1"]
    assert f"changed by another program (WRITE in version {COMMITTED + 1})" in found["remarks"][0]
    assert states(manage("status", output))["date=1"][0] == "foreign"
    assert committed_run(DeltaTable(output), "date=1") == FOREIGN_RUN


def compact(output):
    DeltaTable(output).optimize.compact()


def compact_some(output):
    """Compact two of three files, as a limit of size does."""
    big = list(range(100, 40_000))
    receipts = [stage(output, [n], "date=1", NEXT_RUN, RUN, n, 3) for n in range(2)]
    receipts.append(stage(output, big, "date=1", NEXT_RUN, RUN, 2, 3))
    assert commit_partition(receipts, spec(output)).state == "committed"
    DeltaTable(output).optimize.compact(target_size=20_000)
    assert len(DeltaTable(output).file_uris(file_pruning_predicate=[("date", "=", "1")])) == 2


def order(output):
    DeltaTable(output).optimize.z_order(["id"])


@pytest.mark.parametrize(
    ("rewrite", "run"), [(compact, RUN), (order, RUN), (compact_some, NEXT_RUN)]
)
def test_files_that_were_only_rewritten_change_no_state(output, manage, rewrite, run):
    rewrite(output)
    found = manage("verify", output)
    assert found["exit_code"] == 0
    assert "date=1" in found["unchecked"]
    assert "written by another program (OPTIMIZE in version" in found["remarks"][0]
    assert "only their sizes, rows and columns are checked, not their scores" in found["remarks"][0]
    assert states(manage("status", output))["date=1"] == ("committed", "")
    assert committed_run(DeltaTable(output), "date=1") == run


def restore_by_another(output):
    DeltaTable(output).restore(COMMITTED)


def restore_all(output):
    rollback_table(output, COMMITTED)


def restore_one(output):
    rollback_partition(output, "date=1", COMMITTED)


def score_again(output):
    receipt = stage(output, [0, 1, 2, 3], "date=1", NEXT_RUN, RUN)
    assert commit_partition([receipt], spec(output)).state == "committed"


@pytest.mark.parametrize("undo", [restore_by_another, restore_all, restore_one, score_again])
def test_a_change_that_was_undone_is_no_longer_reported(output, manage, undo):
    update(output)
    undo(output)
    found = manage("verify", output)
    assert (found["exit_code"], found["unchecked"], found["remarks"]) == (0, [], [])
    assert set(states(manage("status", output)).values()) == {("committed", "")}


@pytest.mark.parametrize("back", [rollback_table, lambda o, v: rollback_partition(o, "date=1", v)])
def test_a_change_that_a_rollback_brings_back_is_reported_again(output, manage, back):
    update(output)
    changed = DeltaTable(output).version()
    score_again(output)
    back(output, changed)
    assert manage("verify", output)["unchecked"] == ["date=1"]
    assert states(manage("status", output))["date=1"][0] == "changed"


def test_a_partition_that_another_program_removed_is_missing_with_the_operation(output, capsys):
    for day in ("1", "2", "3"):
        write_file(Path(output).parent / "lake", f"date={day}", "0.parquet", rows_of([0]))
    DeltaTable(output).delete("date = '1'")
    lake = Path(output).parent / "lake"
    assert table.main(["status", f"--output={output}", f"--input={lake}", "--json"]) == 0
    found = states(read_object("table_status", capsys.readouterr().out, 0))
    assert found["date=1"] == ("missing", "another program removed it: DELETE in version 3")
    assert found["date=3"] == ("missing", "")


def test_rows_of_no_partition_are_foreign_and_not_a_crash(output, manage):
    nowhere = rows_of([9]).set_column(2, "date", pa.array([None], pa.string()))
    write_deltalake(output, nowhere, mode="append")
    found = states(manage("status", output))
    assert found["date=__HIVE_DEFAULT_PARTITION__"][0] == "foreign"
    assert manage("verify", output)["unchecked"] == ["date=__HIVE_DEFAULT_PARTITION__"]


def test_without_the_log_files_of_another_program_are_still_not_checked(output, manage):
    update(output)
    DeltaTable(output).create_checkpoint()
    for entry in Path(output, "_delta_log").glob("*.json"):
        entry.unlink()  # as the clean-up of the log does
    found = manage("verify", output)
    assert (found["exit_code"], found["unchecked"]) == (0, ["date=1"])
    assert found["remarks"][0].startswith("date=1: 1 of 1 files were written by another program: ")


@pytest.mark.parametrize("output", ["a b", "100%", "Zoë", "a+b"], indirect=True)
def test_the_log_is_found_wherever_the_table_is(output, manage):
    update_one_file(output)
    assert states(manage("status", output))["date=1"][0] == "changed"


def test_the_report_for_people_has_the_same(output, capsys):
    update(output)
    assert table.main(["verify", f"--output={output}"]) == 0
    told = capsys.readouterr().out
    assert "date=1: its rows were changed by another program (UPDATE in version 3)" in told
    assert "all is right, but 1 is written by another program, not checked" in told
