"""Rows wait for their file, and each is in the table once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.transforms.kafka.append import (
    prepare_table,
)
from scoreline.transforms.kafka.held_rows import HeldRows, LostRows
from scoreline.transforms.kafka.holding import Holding
from tests.transforms.kafka.appending import ids_of, make_rows, make_spec, opened


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
