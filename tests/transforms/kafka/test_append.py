from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import threading

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.lake.table.vacuum import vacuum_table
from scoreline.pipelines import table as table_command
from scoreline.transforms.kafka.append import (
    TableSpec,
    append_scores,
    drop_known,
    prepare_table,
    read_offsets,
)
from scoreline.transforms.kafka.encode import SOURCE_FIELDS, to_columns
from scoreline.transforms.kafka.ending import StreamRefused
from scoreline.transforms.kafka.held_rows import HeldRows, LostRows
from scoreline.transforms.kafka.holding import Holding
from scoreline.transforms.kafka.watched_table import SCORED_DATE, WatchedTable
from tests.fakes import read_scores

SCHEMA = pa.schema([("id", pa.int64()), ("y", pa.float32()), ("model_digest", pa.string())])
NOON_MS = 1_795_521_600_000  # 2026-11-24T12:00:00Z


def make_spec(output, group="g", flush_seconds=60.0):
    return TableSpec(
        output=str(output),
        schema=pa.schema([*SCHEMA, *SOURCE_FIELDS]),
        topic="t",
        topic_id="topic-1",
        group=group,
        flush_seconds=flush_seconds,
    )


def make_rows(partition, first, stop, now_ms=NOON_MS):
    """Return scored rows for the records of a partition between two offsets."""
    offsets = list(range(first, stop))
    scored = pa.RecordBatch.from_pydict(
        {
            "id": pa.array([1000 * partition + o for o in offsets], pa.int64()),
            "_topic": pa.array(["t"] * len(offsets)).dictionary_encode(),
            "_partition": pa.array([partition] * len(offsets), pa.int32()),
            "_offset": pa.array(offsets, pa.int64()),
            "_time_ms": pa.array([5 if o else -1 for o in offsets], pa.int64()),
            "_key": pa.array([None] * len(offsets), pa.binary()),
            "y": pa.array([o / 2 for o in offsets], pa.float32()),
            "model_digest": pa.array(["d"] * len(offsets)).dictionary_encode(),
        }
    )
    return to_columns(scored, now_ms)


@pytest.fixture
def spec(tmp_path):
    spec = make_spec(tmp_path / "scores")
    assert prepare_table(spec, range(4)) == {}
    return spec


def opened(spec):
    return DeltaTable(spec.output)


def watched(spec):
    return WatchedTable(spec.output, spec.schema)


def ids_of(spec):
    return sorted(read_scores(spec.output)["id"].to_pylist())


def test_a_flush_is_one_file_in_one_version_with_its_offsets(spec):
    batches = [make_rows(0, 0, 3), make_rows(2, 0, 2), make_rows(0, 3, 4)]
    (staged,) = append_scores(batches, {0: 5, 2: 2}, spec, 0, watched(spec))
    table = opened(spec)
    assert table.version() == 1
    assert staged.rows == 6
    assert [path.rsplit("/", 1)[-1] for path in table.file_uris()] == [staged.path.split("/")[-1]]
    assert read_offsets(table, spec, range(4)) == {0: 5, 2: 2}
    rows = read_scores(spec.output).sort_by("id").to_pylist()
    assert rows[1] == {
        "id": 1,
        "y": 0.5,
        "model_digest": "d",
        "source_topic": "t",
        "source_partition": 0,
        "source_offset": 1,
        "event_time": dt.datetime(1970, 1, 1, 0, 0, 0, 5000, dt.UTC),
        "scored_time": dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC),
        SCORED_DATE: "2026-11-24",
    }
    assert rows[0]["event_time"] is None
    (commit,) = table.history(1)
    assert json.loads(commit["scoreline.offsets"]) == {"0": [None, 5], "2": [None, 2]}
    assert commit["scoreline.rows"] == "6"


def test_rows_in_the_table_are_not_appended_again(spec):
    table = watched(spec)
    append_scores([make_rows(0, 0, 10)], {0: 10}, spec, 0, table)
    # A job that was killed before the commit of offsets delivers the same records and more.
    assert append_scores([make_rows(0, 0, 10)], {0: 10}, spec, 0, watched(spec)) == ()
    assert opened(spec).version() == 1
    append_scores([make_rows(0, 4, 15), make_rows(1, 0, 5)], {0: 15, 1: 5}, spec, 0, watched(spec))
    assert ids_of(spec) == [*range(15), *range(1000, 1005)]
    assert read_offsets(opened(spec), spec, range(4)) == {0: 15, 1: 5}


def test_another_group_or_topic_is_another_stream(spec):
    append_scores([make_rows(0, 0, 3)], {0: 3}, spec, 0, watched(spec))
    other = make_spec(spec.output, group="other:0")
    assert prepare_table(other, range(4)) == {}
    append_scores([make_rows(0, 0, 3)], {0: 3}, other, 0, watched(spec))
    assert ids_of(spec) == [0, 0, 1, 1, 2, 2]


def test_of_two_that_append_the_same_at_once_one_looks_again(spec):
    stale = watched(spec)
    append_scores([make_rows(0, 0, 10)], {0: 10}, spec, 0, watched(spec))
    (staged,) = append_scores([make_rows(0, 0, 12)], {0: 12}, spec, 0, stale)
    assert staged.rows == 2
    assert ids_of(spec) == list(range(12))
    # Other partitions in a table that has changed meanwhile are no conflict.
    behind = watched(spec)
    append_scores([make_rows(0, 12, 14)], {0: 14}, spec, 0, watched(spec))
    append_scores([make_rows(1, 0, 3)], {1: 3}, spec, 1, behind)
    assert ids_of(spec) == [*range(14), 1000, 1001, 1002]


def test_readers_side_by_side_append_each_record_once(spec):
    def append(slot):
        table = watched(spec)
        for first in range(0, 50, 10):
            # Each also delivers the other's partition, as if both owned it.
            batches = [make_rows(p, first, first + 10) for p in (0, 1)]
            append_scores(batches, dict.fromkeys((0, 1), first + 10), spec, slot, table)

    threads = [threading.Thread(target=append, args=[slot]) for slot in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids_of(spec) == [*range(50), *range(1000, 1050)]


def rewrite(change, partition_by=SCORED_DATE):
    """Return the owner's overwrite of the table with other columns."""

    def act(output):
        table = change(read_scores(output))
        write_deltalake(
            output, table, mode="overwrite", schema_mode="overwrite", partition_by=[partition_by]
        )

    return act


def with_type(table, data_type):
    at = table.schema.get_field_index("y")
    return table.set_column(at, "y", table["y"].cast(data_type))


def delete_and_create(output):
    shutil.rmtree(output)
    spec = make_spec(output)
    prepare_table(spec, range(4))
    for first in range(5):  # as many versions as before, and more
        append_scores([make_rows(3, first, first + 1)], {3: first + 1}, spec, 0, watched(spec))


OWNERS_CHANGES = {
    "text": (rewrite(lambda t: with_type(t, pa.string())), "column 'y' as \"float\", the table"),
    "double": (rewrite(lambda t: with_type(t, pa.float64())), "column 'y' as \"float\", the table"),
    "dropped": (
        rewrite(lambda t: t.drop_columns(["y"])),
        "column 'y' as \"float\", the table has no",
    ),
    "renamed": (
        rewrite(lambda t: t.rename_columns({"y": "z"})),
        "column 'y' as \"float\", the table has no such column",
    ),
    "added": (
        lambda output: DeltaTable(output).alter.add_columns(Field("extra", "string")),
        "column 'extra' as no column",
    ),
    "partitions": (rewrite(lambda t: t, "model_digest"), "partitioned by scored_date"),
    "constraint": (
        lambda output: DeltaTable(output).alter.add_constraint({"low": "y < 500"}),
        "expected a table without constraints, got low: y < 500",
    ),
    "another_table": (delete_and_create, "it was deleted and created again while the job ran"),
    "deleted": (shutil.rmtree, "got none: it was deleted while the job ran"),
}


@pytest.mark.parametrize(("change", "told"), OWNERS_CHANGES.values(), ids=OWNERS_CHANGES)
@pytest.mark.parametrize("moment", ["before", "within"])
def test_a_table_that_its_owner_changes_is_never_appended_to(
    spec, monkeypatch, change, told, moment
):
    table = watched(spec)
    append_scores([make_rows(0, 0, 10)], {0: 10}, spec, 0, table)
    real = DeltaTable.create_write_transaction

    def change_first(self, *args, **kwargs):
        monkeypatch.undo()
        change(spec.output)
        return real(self, *args, **kwargs)

    if moment == "before":
        change(spec.output)
    elif change not in (delete_and_create, shutil.rmtree):  # these are seen before the commit only
        monkeypatch.setattr(DeltaTable, "create_write_transaction", change_first)
    else:
        return
    with pytest.raises(StreamRefused) as e:
        append_scores([make_rows(0, 10, 20)], {0: 20}, spec, 0, table)
    assert str(e.value).startswith("--output: expected ")
    assert told in str(e.value)
    if change is not shutil.rmtree:
        assert 15 not in ids_of(spec)


def test_a_table_whose_owner_changes_what_rows_do_not_need_is_appended_to(spec):
    table = watched(spec)
    append_scores([make_rows(0, 0, 10)], {0: 10}, spec, 0, table)
    owner = opened(spec)
    owner.alter.set_table_properties({"delta.logRetentionDuration": "interval 9 days"})
    owner.optimize.compact()
    owner.create_checkpoint()
    append_scores([make_rows(0, 10, 20)], {0: 20}, spec, 0, table)
    assert ids_of(spec) == list(range(20))


def test_nulls_are_not_appended_to_a_column_that_must_have_values(spec):
    shutil.rmtree(spec.output)
    required = pa.schema(
        [
            f.with_nullable(f.name != "model_digest")
            for f in (*spec.schema, pa.field(SCORED_DATE, pa.string()))
        ]
    )
    DeltaTable.create(spec.output, required, partition_by=[SCORED_DATE])
    append_scores([make_rows(0, 0, 10)], {0: 10}, spec, 0, watched(spec))
    rows = make_rows(0, 10, 20)
    at = rows.schema.get_field_index("model_digest")
    nulls = pa.nulls(rows.num_rows, rows.schema.field(at).type)
    rows = pa.RecordBatch.from_arrays(
        [nulls if i == at else rows.column(i) for i in range(rows.num_columns)], rows.schema.names
    )
    with pytest.raises(StreamRefused, match="'model_digest', which is NOT NULL"):
        append_scores([rows], {0: 20}, spec, 0, watched(spec))
    assert ids_of(spec) == list(range(10))


def test_midnight_gives_a_file_for_each_date_in_one_version(spec):
    later = NOON_MS + 12 * 3600 * 1000
    append_scores([make_rows(0, 0, 2), make_rows(0, 2, 4, later)], {0: 4}, spec, 0, watched(spec))
    table = opened(spec)
    dates = read_scores(spec.output)[SCORED_DATE].to_pylist()
    assert sorted(dates) == ["2026-11-24"] * 2 + ["2026-11-25"] * 2
    assert table.version() == 1


def test_compaction_vacuum_and_checkpoints_keep_the_history(spec):
    table = watched(spec)
    for first in range(0, 40, 10):
        append_scores([make_rows(0, first, first + 10)], {0: first + 10}, spec, 0, table)
    running = watched(spec)
    assert opened(spec).optimize.compact()["numFilesRemoved"] == 4
    opened(spec).create_checkpoint()
    opened(spec).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    # The running job continues, and a restarted job finds the same state.
    append_scores([make_rows(0, 35, 45)], {0: 45}, spec, 0, running)
    assert prepare_table(spec, range(2)) == {0: 45}
    assert ids_of(spec) == list(range(45))


def test_a_file_whose_transaction_never_came_is_removed_by_vacuum(spec, monkeypatch, capsys):
    def die(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(DeltaTable, "create_write_transaction", die)
    with pytest.raises(KeyboardInterrupt):
        append_scores([make_rows(0, 0, 5)], {0: 5}, spec, 0, watched(spec))
    monkeypatch.undo()
    append_scores([make_rows(0, 0, 6)], {0: 6}, spec, 0, watched(spec))
    half = f"{spec.output}/{SCORED_DATE}=2026-11-24/.part-0123.tmp"  # a worker died in the write
    open(half, "w").close()
    assert ids_of(spec) == list(range(6))
    removed = vacuum_table(spec.output, 0, dry_run=False)
    assert len(removed.data_files) == 2
    assert not os.path.exists(half)
    assert ids_of(spec) == list(range(6))
    assert table_command.main(["verify", f"--output={spec.output}"]) == 0
    assert "6 rows: all is right" in capsys.readouterr().out


def test_only_rows_below_an_offset_of_their_partition_are_dropped():
    rows = pa.concat_batches([make_rows(0, 0, 4), make_rows(1, 0, 4)])
    kept = drop_known(rows, {0: 2, 3: 9})
    assert kept["id"].to_pylist() == [2, 3, 1000, 1001, 1002, 1003]
    assert drop_known(rows, {}) is rows


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def held(spec):
    clock, holding, committed = Clock(), Holding(), []
    return HeldRows(spec, 0, holding, clock), clock, holding, committed


def test_rows_wait_over_bundles_until_it_is_time(spec):
    rows, clock, holding, committed = held(spec)
    assert not rows.is_due
    for first in range(0, 40, 10):
        rows.add(make_rows(0, first, first + 10))
        rows.end_bundle({0: first + 10})
        clock.now += 19
        assert rows.is_due == (clock.now >= 60)
        assert holding.offsets == {0: first + 10}
    rows.add(make_rows(0, 40, 50))  # rows of a bundle that has not ended
    assert rows.write(committed.append) > 0
    assert committed == [{0: 40}]
    assert ids_of(spec) == list(range(40))
    assert not rows.is_due
    assert holding.offsets == {}
    assert rows.write(committed.append) == 0


def test_only_rows_that_the_reader_has_confirmed_are_written(spec):
    """The others may be of a topic that was created again; the next job reads those again."""
    rows, clock, holding, committed = held(spec)
    holding.confirmed = {}
    rows.add(make_rows(0, 0, 10))
    rows.add(make_rows(1, 0, 4))
    rows.end_bundle({0: 10, 1: 4})
    clock.now = 60.0
    assert rows.is_due
    assert rows.write(committed.append) == 0
    assert holding.is_awaited
    holding.confirmed |= {0: 6, 1: 4}  # what the reader had read before it looked
    assert rows.write(committed.append) > 0
    assert committed == [{0: 6, 1: 4}]
    assert ids_of(spec) == [*range(6), *range(1000, 1004)]
    assert holding.offsets == {0: 10}
    assert not rows.is_due  # the rest has a file of its own, a minute later
    assert rows.write(committed.append) == 0
    rows.add(make_rows(0, 10, 12))
    rows.end_bundle({0: 12})
    holding.confirmed |= {0: 12}
    assert rows.write(committed.append) > 0
    assert committed[1:] == [{0: 12}]
    assert ids_of(spec) == [*range(12), *range(1000, 1004)]
    assert holding.offsets == {}


def test_rows_do_not_wait_when_nothing_more_is_read_or_they_take_much_memory(spec, monkeypatch):
    rows, _, holding, committed = held(spec)
    rows.add(make_rows(0, 0, 10))
    rows.end_bundle({0: 10})
    assert not rows.is_due
    holding.ended = True
    assert rows.is_due
    holding.ended = False
    monkeypatch.setattr("scoreline.transforms.kafka.held_rows._MAX_BYTES", 2000)
    assert not rows.is_due
    rows.add(make_rows(0, 10, 60))
    rows.end_bundle({0: 60})
    assert rows.is_due
    rows.write(committed.append)
    assert ids_of(spec) == list(range(60))


def test_offsets_of_dead_letters_are_committed_without_a_version(spec):
    rows, _, _, committed = held(spec)
    rows.end_bundle({0: 3})
    assert rows.write(committed.append) == 0
    assert committed == [{0: 3}]
    assert opened(spec).version() == 0


def test_rows_that_cannot_be_written_wait_on(spec, monkeypatch):
    rows, _, _, committed = held(spec)
    rows.add(make_rows(0, 0, 10))
    rows.end_bundle({0: 10})

    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr("scoreline.transforms.kafka.append.StagedFile", fail)
    with pytest.raises(OSError, match="full"):
        rows.write(committed.append)
    monkeypatch.undo()
    assert committed == []
    rows.write(committed.append)
    assert ids_of(spec) == list(range(10))


def test_offsets_read_after_lost_rows_do_not_count_for_them(spec):
    rows, _, holding, committed = held(spec)
    rows.add(make_rows(0, 0, 10))
    rows.end_bundle({0: 10})
    rows.give_up()
    assert holding.offsets == {}
    again = HeldRows(spec, 0, holding)
    again.add(make_rows(0, 10, 20))
    with pytest.raises(LostRows, match="A restart reads them again"):
        again.end_bundle({0: 20})
    assert again.write(committed.append) == 0
    holding.seen = holding.losses  # its reader has rewound
    again.give_up()
    holding.seen = holding.losses
    again.add(make_rows(0, 0, 20))
    again.end_bundle({0: 20})
    again.write(committed.append)
    assert ids_of(spec) == list(range(20))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_each_record_is_in_the_table_once_after_any_kill(tmp_path_factory, data):
    """Jobs read from the group's offset, write or not, and commit or die before the commit."""
    spec = make_spec(tmp_path_factory.mktemp("lake") / "scores")
    prepare_table(spec, range(2))
    group = {0: 0, 1: 0}
    for _ in range(data.draw(st.integers(1, 6), label="jobs")):
        rows, at = HeldRows(spec, 0, Holding()), dict(group)
        for _ in range(data.draw(st.integers(0, 4), label="bundles")):
            partition = data.draw(st.integers(0, 1), label="partition")
            stop = at[partition] + data.draw(st.integers(1, 5), label="records")
            rows.add(make_rows(partition, at[partition], stop))
            at[partition] = stop
            rows.end_bundle({partition: stop})
            end = data.draw(st.sampled_from(["wait", "write", "die before the commit"]))
            if end == "write":
                rows.write(group.update)
            elif end == "die before the commit":
                rows.write(lambda offsets: None)
                break
    rows, at = HeldRows(spec, 0, Holding()), dict(group)
    for partition in at:
        rows.add(make_rows(partition, at[partition], 40))
    rows.end_bundle(dict.fromkeys(at, 40))
    rows.write(group.update)
    assert ids_of(spec) == [*range(40), *range(1000, 1040)]
