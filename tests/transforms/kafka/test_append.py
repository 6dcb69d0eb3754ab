from __future__ import annotations

import datetime as dt
import json
import os
import threading

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from scoreline.lake.table.vacuum import vacuum_table
from scoreline.pipelines import table as table_command
from scoreline.transforms.kafka.append import (
    append_scores,
    drop_known,
    prepare_table,
    read_offsets,
)
from scoreline.transforms.kafka.watched_table import SCORED_DATE
from tests.fakes import read_scores
from tests.transforms.kafka.appending import NOON_MS, ids_of, make_rows, make_spec, opened, watched


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


def test_midnight_gives_a_file_for_each_date_in_one_version(spec):
    later = NOON_MS + 12 * 3600 * 1000
    append_scores([make_rows(0, 0, 2), make_rows(0, 2, 4, later)], {0: 4}, spec, 0, watched(spec))
    table = opened(spec)
    dates = read_scores(spec.output)[SCORED_DATE].to_pylist()
    assert sorted(dates) == ["2026-11-24"] * 2 + ["2026-11-25"] * 2
    assert table.version() == 1


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
