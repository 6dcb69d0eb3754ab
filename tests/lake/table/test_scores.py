from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import fs

from scoreline.lake.elements import Receipt, Shard
from scoreline.lake.table import commit
from scoreline.lake.table import scores as delta
from scoreline.lake.table.commit import CommitSpec, commit_partitions
from scoreline.lake.table.history import read_live_partitions
from scoreline.lake.table.layout import partition_folder
from scoreline.lake.table.scores import committed_runs, create_table, open_table
from scoreline.lake.table.staged_file import StagedFile
from tests.fakes import ROOT, read_scores

SCHEMA = pa.schema([("id", pa.int64()), ("score", pa.float32())])


@pytest.fixture
def output(tmp_path):
    path = str(tmp_path / "scores")
    create_table(path, SCHEMA, ["date"])
    return path


def spec_of(output, ratio=0.0):
    return CommitSpec(
        output,
        ["date"],
        ["id"],
        {"model_digest": "sha256:1", "job_id": "job"},
        {f"date={d}": "f" for d in ("1", "2", "a%2Fb")},
        ratio,
    )


def stage(output, ids, partition="date=1", run="1" * 15, base="", number=0, shards=1, **fields):
    shard = Shard(partition, run, base, number, shards, [], len(ids))
    file = StagedFile(
        fs.LocalFileSystem(), output, partition_folder(partition), number, run, SCHEMA
    )
    scores = pa.array([0.5] * len(ids), pa.float32())
    file.write(pa.RecordBatch.from_arrays([pa.array(ids, pa.int64()), scores], schema=SCHEMA))
    staged = file.close()
    counts = {"rows_in": len(ids), "rows_scored": len(ids), **fields}
    return Receipt.of(
        shard, path=staged.path, size_bytes=staged.size_bytes, stats=staged.stats, **counts
    )


def commit_partition(receipts, spec, table=None):
    (outcome,) = commit_partitions([receipts], spec, table)
    return outcome


def ids_in(output):
    return sorted(read_scores(output)["id"].to_pylist())


def test_commit_is_idempotent_when_the_bundle_is_retried(output):
    receipts = [stage(output, [1, 2], number=0, shards=2), stage(output, [3], number=1, shards=2)]
    first = commit_partition(receipts, spec_of(output))
    again = commit_partition(receipts * 2, spec_of(output))
    assert (first.state, first.version, first.rows_scored) == ("committed", 1, 3)
    assert (again.state, again.version) == ("committed", 1)
    assert ids_in(output) == [1, 2, 3]


def test_same_work_done_by_another_run_is_not_committed_again(output):
    commit_partition([stage(output, [1])], spec_of(output))
    other = spec_of(output)._replace(metadata={"model_digest": "sha256:1", "job_id": "other"})
    outcome = commit_partition([stage(output, [1])], other)
    assert (outcome.state, DeltaTable(output).version()) == ("already_committed", 1)


def test_commit_overwrites_exactly_its_partition(output):
    commit_partition([stage(output, [1])], spec_of(output))
    commit_partition([stage(output, [2], "date=2")], spec_of(output))
    again = commit_partition([stage(output, [9], run="2" * 15, base="1" * 15)], spec_of(output))
    assert again.state == "committed"
    assert ids_in(output) == [2, 9]


@pytest.mark.parametrize(
    ("receipts", "reason"),
    [
        (lambda o: [stage(o, [1], shards=2)], r"expected 2 staged shards, got none for \[1\]"),
        (lambda o: [stage(o, [1], rows_in=5)], "expected rows in = scored . dead, got 5 = 1 . 0"),
        (lambda o: [stage(o, [1], error="disk full")], "disk full"),
    ],
)
def test_partition_that_is_not_whole_is_never_published(output, receipts, reason):
    outcome = commit_partition(receipts(output), spec_of(output))
    assert outcome.state == "failed"
    assert re.search(reason, outcome.reason)
    assert DeltaTable(output).version() == 0


def test_other_work_on_the_partition_since_the_plan_is_a_conflict_that_names_the_run(output):
    commit_partition([stage(output, [1], run="2" * 15)], spec_of(output))
    outcome = commit_partition([stage(output, [5], run="1" * 15)], spec_of(output))
    assert outcome.state == "conflict"
    assert f"but run {'2' * 15} with model sha256:1 in version 1 has changed it" in outcome.reason
    assert ids_in(output) == [1]


def test_of_many_first_commits_of_a_partition_one_wins_and_others_go_through(output):
    """Six runs race: five models on one partition, and one run on another partition."""
    receipts = [[stage(output, [i], run=str(i) * 15)] for i in range(1, 6)]
    receipts.append([stage(output, [100], "date=2")])
    barrier = threading.Barrier(6)
    outcomes = {}

    def commit(i):
        barrier.wait()
        outcomes[i] = commit_partition(receipts[i], spec_of(output))

    threads = [threading.Thread(target=commit, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = [outcomes[i].state for i in range(5)]
    assert sorted(states) == ["committed"] + ["conflict"] * 4
    assert outcomes[5].state == "committed"
    assert ids_in(output) == [states.index("committed") + 1, 100]


def test_overwrites_of_different_partitions_at_once_all_go_through(output):
    for day in ("1", "2"):
        commit_partition([stage(output, [int(day)], f"date={day}")], spec_of(output))
    barrier = threading.Barrier(2)
    states = []

    def overwrite(day):
        receipt = stage(output, [10 * day], f"date={day}", run="2" * 15, base="1" * 15)
        barrier.wait()
        states.append(commit_partition([receipt], spec_of(output)).state)

    threads = [threading.Thread(target=overwrite, args=(day,)) for day in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == ["committed", "committed"]
    assert ids_in(output) == [10, 20]


def test_committed_runs_follow_a_rollback_and_survive_compaction(output):
    for run, base in (("1" * 15, ""), ("2" * 15, "1" * 15)):
        receipts = [stage(output, [n], run=run, base=base, number=n, shards=2) for n in (0, 1)]
        assert commit_partition(receipts, spec_of(output)).state == "committed"
    assert committed_runs(DeltaTable(output), ["date=1", "date=2"]) == {"date=1": "2" * 15}
    DeltaTable(output).optimize.compact()
    assert len(DeltaTable(output).file_uris()) == 1
    assert committed_runs(DeltaTable(output), ["date=1"]) == {"date=1": "2" * 15}
    (live,) = read_live_partitions(DeltaTable(output))
    assert (live.run_id, live.commit["run_id"]) == ("2" * 15, "2" * 15)
    DeltaTable(output).restore(1)
    assert committed_runs(DeltaTable(output), ["date=1"]) == {"date=1": "1" * 15}


def test_rows_that_something_else_appended_make_a_partition_foreign(output):
    commit_partition([stage(output, [1])], spec_of(output))
    row = pa.table({"id": [7], "score": pa.array([1.0], pa.float32()), "date": ["1"]})
    write_deltalake(output, row, mode="append")
    assert committed_runs(DeltaTable(output), ["date=1"]) == {"date=1": delta.FOREIGN_RUN}


def test_value_with_a_slash_is_committed_under_its_value(output):
    outcome = commit_partition([stage(output, [1], "date=a%2Fb")], spec_of(output))
    assert outcome.state == "committed"
    assert read_scores(output)["date"].to_pylist() == ["a/b"]
    assert committed_runs(DeltaTable(output), ["date=a%2Fb"]) == {"date=a%2Fb": "1" * 15}


def test_a_reader_of_a_few_rows_ends_without_waiting_for_prefetch_threads(tmp_path):
    """Regression: with deltalake's own file system such a process hung, or aborted at its end."""
    path = str(tmp_path / "many")
    days = [str(day) for day in range(100)]
    write_deltalake(path, pa.table({"id": range(100), "date": days}), partition_by=["date"])
    code = (
        "import duckdb; from scoreline.lake.table.scores import open_scores; "
        f"scores = open_scores({path!r}); print(len(duckdb.sql('from scores limit 5').fetchall()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"5\n", b"")


def test_duplicate_keys_are_counted_across_shards(output):
    receipts = [stage(output, [1, 2], shards=2), stage(output, [2, 2], number=1, shards=2)]
    assert commit_partition(receipts, spec_of(output)).duplicate_keys == 2


def test_log_that_cannot_be_written_fails_the_partition_only(output, monkeypatch):
    receipt = stage(output, [1])

    def fail(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(commit.DeltaTable, "create_write_transaction", fail)
    outcome = commit_partition([receipt], spec_of(output))
    assert outcome.state == "failed"
    assert outcome.reason == "cannot commit: OSError: No space left on device"


def test_nothing_and_an_empty_folder_are_no_table_yet(tmp_path):
    assert open_table(str(tmp_path / "absent")) is None
    (tmp_path / "empty").mkdir()
    assert open_table(str(tmp_path / "empty")) is None


def test_no_staged_file_is_seen_before_its_commit(output):
    receipt = stage(output, [1])
    assert (Path(output) / receipt.path).exists()
    assert ids_in(output) == []


def create_at_once(path, schemas):
    """Create one table from several threads at the same time, one thread per schema."""
    barrier = threading.Barrier(len(schemas))
    errors = []

    def create(schema):
        barrier.wait()
        try:
            create_table(path, schema, ["date"])
        except ValueError as e:
            errors.append(str(e))

    threads = [threading.Thread(target=create, args=(schema,)) for schema in schemas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize("number", range(5))
def test_table_that_several_create_at_once_is_created_once(tmp_path, number):
    path = str(tmp_path / "scores")
    assert create_at_once(path, [SCHEMA] * 4) == []
    assert DeltaTable(path).version() == 0
    other = SCHEMA.append(pa.field("more", pa.float64()))
    assert len(create_at_once(str(tmp_path / "mixed"), [SCHEMA, other])) <= 1
    assert DeltaTable(str(tmp_path / "mixed")).version() == 0
