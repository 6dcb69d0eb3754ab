"""Partitions that are published together, beside other programs that change the table meanwhile."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.lake.files.partitions import partition_path
from scoreline.lake.table import publish
from scoreline.lake.table.commit import commit_partitions
from scoreline.lake.table.history import read_live_partitions
from scoreline.lake.table.log import read_commits
from scoreline.lake.table.rollback import rollback_partition
from scoreline.lake.table.scores import committed_runs, create_table, live_files
from scoreline.lake.table.verify import verify_partitions
from tests.fakes import read_scores
from tests.lake.table.awkward import AWKWARD_VALUES
from tests.lake.table.test_scores import SCHEMA, ids_in, spec_of, stage

ONE, TWO = "1" * 15, "2" * 15


@pytest.fixture
def output(tmp_path):
    path = str(tmp_path / "scores")
    create_table(path, SCHEMA, ["date"])
    return path


def stage_days(output, days, run=ONE, base="", shift=0):
    return [[stage(output, [10 * day + shift], f"date={day}", run=run, base=base)] for day in days]


def write_row(output, day, number, **options):
    row = {"id": [number], "score": pa.array([1.0], pa.float32()), "date": [str(day)]}
    write_deltalake(output, pa.table(row), mode="append", **options)


def test_ready_partitions_share_a_transaction_and_each_has_its_record(output):
    outcomes = commit_partitions(stage_days(output, (1, 2, 3)), spec_of(output))
    assert [(o.partition, o.state, o.version) for o in outcomes] == [
        (f"date={day}", "committed", 1) for day in (1, 2, 3)
    ]
    held = read_live_partitions(DeltaTable(output))
    assert [(live.partition, live.run_id) for live in held] == [
        (f"date={day}", ONE) for day in (1, 2, 3)
    ]
    for live in held:
        assert (live.commit["version"], live.commit["partition"]) == (1, live.partition)
        assert live.commit["model_digest"] == "sha256:1"
        assert (live.commit["rows_scored"], live.commit["run_id"]) == ("1", ONE)
    verified = dict(verify_partitions(output, DeltaTable(output), held))
    assert verified == {f"date={day}": [] for day in (1, 2, 3)}


def test_one_of_several_can_be_rolled_back(output):
    commit_partitions(stage_days(output, (1, 2)), spec_of(output))
    commit_partitions(stage_days(output, (1, 2), TWO, ONE, shift=5), spec_of(output))
    assert ids_in(output) == [15, 25]
    assert rollback_partition(output, "date=2", 1) == 3
    assert ids_in(output) == [15, 20]
    assert committed_runs(DeltaTable(output), ["date=1", "date=2"]) == {
        "date=1": TWO,
        "date=2": ONE,
    }


def test_one_that_may_not_be_published_is_left_out(output):
    commit_partitions(stage_days(output, (2,), TWO), spec_of(output))
    partitions = stage_days(output, (1, 2, 3))
    partitions[2][0] = partitions[2][0]._replace(rows_in=7)
    outcomes = commit_partitions(partitions, spec_of(output))
    assert [(o.state, o.version) for o in outcomes] == [
        ("committed", 2),
        ("conflict", -1),
        ("failed", -1),
    ]
    assert f"but run {TWO} with model sha256:1 in version 1 has changed it" in outcomes[1].reason
    assert ids_in(output) == [10, 20]


def test_several_are_committed_once_when_their_bundle_is_retried(output):
    days = stage_days(output, (1, 2))
    assert [o.version for o in commit_partitions(days, spec_of(output))] == [1, 1]
    more = [*days, *stage_days(output, (3,))]
    assert [o.version for o in commit_partitions(more, spec_of(output))] == [1, 1, 2]
    assert [o.state for o in commit_partitions(more, spec_of(output))] == ["committed"] * 3
    assert DeltaTable(output).version() == 2


def test_an_error_of_one_costs_only_its_partition(output, monkeypatch):
    real = publish.add_action

    def refuse(path, *args):
        if path.startswith("date=2"):
            raise DeltaError("this file is refused")
        return real(path, *args)

    monkeypatch.setattr(publish, "add_action", refuse)
    outcomes = commit_partitions(stage_days(output, (1, 2, 3)), spec_of(output))
    assert [(o.state, o.version) for o in outcomes] == [
        ("committed", 1),
        ("failed", -1),
        ("committed", 2),
    ]
    assert outcomes[1].reason == "cannot commit: DeltaError: this file is refused"


@pytest.mark.parametrize("error", [CommitFailedError, DeltaError, OSError])
def test_several_whose_answer_is_lost_are_not_committed_twice(output, monkeypatch, error):
    real = DeltaTable.create_write_transaction

    def lose_answer(*args, **kwargs):
        real(*args, **kwargs)
        raise error("connection reset")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lose_answer)
    outcomes = commit_partitions(stage_days(output, (1, 2)), spec_of(output))
    assert [(o.state, o.version) for o in outcomes] == [("committed", 1)] * 2
    assert DeltaTable(output).version() == 1


def test_files_that_a_compaction_rewrote_meanwhile_do_not_stay_beside_the_new_ones(output):
    """Regression: the rows of such a partition were doubled."""
    old = [stage(output, [n], number=n, shards=2) for n in (0, 1)]
    commit_partitions([old], spec_of(output))
    before = DeltaTable(output)
    DeltaTable(output).optimize.compact()
    new = [[stage(output, [0, 1], run=TWO, base=ONE)]]
    (outcome,) = commit_partitions(new, spec_of(output), before)
    assert (outcome.state, outcome.version) == ("committed", 3)
    assert ids_in(output) == [0, 1]


def test_rows_that_were_added_meanwhile_are_a_conflict(output):
    """Regression: they stayed beside the scores."""
    before = DeltaTable(output)
    write_row(output, 1, 7)
    outcomes = commit_partitions(stage_days(output, (1, 2)), spec_of(output), before)
    assert [o.state for o in outcomes] == ["conflict", "committed"]
    assert "but another program has changed it" in outcomes[0].reason
    assert ids_in(output) == [7, 20]


def test_a_transaction_is_made_on_the_version_that_was_looked_at_or_not_at_all(output, monkeypatch):
    """Other programs commit between the look at the table and the transaction."""
    real = DeltaTable.create_write_transaction
    meanwhile = [
        lambda: write_row(output, 9, 90),
        lambda: write_row(output, 1, 7),
        lambda: DeltaTable(output).delete("date = '1'"),
        lambda: DeltaTable(output).optimize.compact(),
        lambda: DeltaTable(output).alter.set_table_properties({"delta.minReaderVersion": "1"}),
    ]
    commit_partitions(stage_days(output, (1, 2, 9)), spec_of(output))

    def commit_late(*args, **kwargs):
        if meanwhile:
            with monkeypatch.context() as patch:
                patch.setattr(DeltaTable, "create_write_transaction", real)
                meanwhile.pop(0)()
        real(*args, **kwargs)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit_late)
    outcomes = commit_partitions(stage_days(output, (1, 2), TWO, ONE, shift=5), spec_of(output))
    assert [o.state for o in outcomes] == ["conflict", "committed"]
    assert not meanwhile[3:]
    assert ids_in(output)[-3:] == [25, 90, 90]


def test_a_table_with_deletion_vectors_gets_a_transaction_for_each_partition(output):
    """The engine must remove the vectors with their files: the entry of a file is both."""
    commit_partitions(stage_days(output, (1, 2, 3)), spec_of(output))
    add_vector_feature(output)
    days = [*stage_days(output, (1, 2), TWO, ONE, shift=5), *stage_days(output, (4,))]
    outcomes = commit_partitions(days, spec_of(output))
    assert [o.state for o in outcomes] == ["committed"] * 3
    assert len({o.version for o in outcomes}) == 3
    assert committed_runs(DeltaTable(output), [f"date={day}" for day in (1, 2, 3, 4)]) == {
        "date=1": TWO,
        "date=2": TWO,
        "date=3": ONE,
        "date=4": ONE,
    }
    logs = sorted(Path(output, "_delta_log").glob("*.json"))
    assert '"mode":"Overwrite"' in logs[-1].read_text()


def add_vector_feature(output):
    """Write the version that switches deletion vectors on: the engine cannot."""
    version = DeltaTable(output).version() + 1
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    }
    path = Path(output, "_delta_log", f"{version:020d}.json")
    path.write_text(json.dumps({"protocol": protocol}) + "\n")


def test_awkward_partitions_are_replaced_together(output):
    paths = [partition_path([("date", value)]) for value in AWKWARD_VALUES.values()]
    for run, base, number in ((ONE, "", 1), (TWO, ONE, 2)):
        partitions = [[stage(output, [number], path, run=run, base=base)] for path in paths]
        outcomes = commit_partitions(partitions, spec_of(output))
        assert {(o.state, o.version) for o in outcomes} == {("committed", number)}
    assert ids_in(output) == [2] * len(paths)
    assert committed_runs(DeltaTable(output), paths) == dict.fromkeys(paths, TWO)
    held = live_files(DeltaTable(output))
    assert {path: live_files(DeltaTable(output), [path]) for path in paths} == {
        path: {path: held[path]} for path in paths
    }


@settings(max_examples=25, deadline=None)
@given(st.sets(st.tuples(st.sampled_from("abc"), st.sampled_from("123")), min_size=1))
def test_only_wanted_partitions_of_two_columns_are_read(tmp_path_factory, wanted):
    output = str(tmp_path_factory.getbasetemp() / "two columns")
    every = [partition_path([("p", p), ("q", q)]) for p in "abc" for q in "12"]
    if not Path(output).exists():
        create_table(output, SCHEMA, ["p", "q"])
        spec = spec_of(output)._replace(partition_columns=["p", "q"])
        commit_partitions([[stage(output, [1], path)] for path in every], spec)
    table = DeltaTable(output)
    paths = {partition_path([("p", p), ("q", q)]) for p, q in wanted}
    held = live_files(table)
    assert set(held) == set(every)
    assert live_files(table, paths) == {path: held[path] for path in held if path in paths}


def test_runs_that_publish_overlapping_partitions_at_once_each_publish_whole_ones(output):
    days = range(6)
    runs = [str(n) * 15 for n in range(1, 5)]
    plans = [sorted(random.Random(n).sample(days, 4)) for n in range(4)]
    staged = [
        [[stage(output, [n, n + 10], f"date={day}", run=run)] for day in plan]
        for n, (run, plan) in enumerate(zip(runs, plans, strict=True))
    ]
    barrier, outcomes = threading.Barrier(4), []

    def commit(partitions):
        barrier.wait()
        outcomes.extend(commit_partitions(partitions, spec_of(output)))

    threads = [threading.Thread(target=commit, args=(partitions,)) for partitions in staged]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = {o.partition: o.run_id for o in outcomes if o.state == "committed"}
    assert len(won) == sum(o.state == "committed" for o in outcomes)
    assert {o.state for o in outcomes} <= {"committed", "conflict"}
    planned = {f"date={day}" for plan in plans for day in plan}
    assert committed_runs(DeltaTable(output), planned) == won
    assert set(won) == planned
    assert read_scores(output).num_rows == 2 * len(planned)
    commits = read_commits(DeltaTable(output))
    recorded = [(c["partition"], c["run_id"]) for c in commits if "partition" in c]
    assert sorted(recorded) == sorted(won.items()), "each partition was committed once"
