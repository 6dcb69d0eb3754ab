from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.lake.elements import Reading
from scoreline.transforms.kafka.client import Connection
from scoreline.transforms.kafka.ending import StreamRefused
from scoreline.transforms.kafka.positions import (
    Positions,
    PositionsCoder,
    PositionsTracker,
    RecordTimes,
)
from scoreline.transforms.kafka.reader import Reader, TopicSpec
from scoreline.transforms.kafka.topic_watch import PlannedTopic

offsets = st.dictionaries(st.integers(0, 20), st.integers(0, 2**62))


@given(positions=st.builds(Positions, offsets, st.none() | offsets, st.booleans(), st.text()))
def test_coder_inverts_and_sorts(positions):
    coder = PositionsCoder()
    assert coder.decode(coder.encode(positions)) == positions
    turned = positions._replace(offsets=dict(reversed(positions.offsets.items())))
    assert coder.encode(turned) == coder.encode(positions)


def test_a_savepoint_of_an_older_version_has_no_id_of_its_topic():
    assert PositionsCoder().decode(b"[[[0, 5]], null, false]") == Positions({0: 5})


def test_a_savepoint_of_an_older_topic_of_the_same_name_is_refused():
    spec = TopicSpec(
        connection=Connection(brokers="127.0.0.1:1"),
        topic="in",
        group="g",
        topics=(PlannedTopic("in", "new", "--topic"),),
    )
    with pytest.raises(StreamRefused, match="with id new, got id old: the topic was deleted"):
        Reader(spec, Reading("in", 0, 1), Positions({0: 5}, topic_id="old"))


def test_at_a_checkpoint_the_rest_is_given_away_and_nothing_is_claimed_twice():
    tracker = PositionsTracker(Positions({0: 10, 1: 20}))
    assert tracker.try_claim({0: 15})
    done, rest = tracker.try_split(0)
    assert done.stopped
    assert rest == Positions({0: 15, 1: 20})
    assert not tracker.try_claim({0: 16})
    assert tracker.try_split(0) is None
    tracker.check_done()
    assert tracker.current_restriction().offsets == {0: 15, 1: 20}


@pytest.mark.parametrize("fraction", [0.01, 0.5, 1])
def test_a_reader_is_never_cut_in_two(fraction):
    tracker = PositionsTracker(Positions({0: 10, 1: 20}))
    assert tracker.try_split(fraction) is None
    assert tracker.try_claim({0: 15})


def test_a_reader_that_leaves_without_giving_the_rest_away_is_an_error():
    tracker = PositionsTracker(Positions({0: 0}))
    tracker.try_claim({0: 5})
    with pytest.raises(ValueError, match="to be read from"):
        tracker.check_done()


def test_with_ends_it_is_done_when_all_partitions_are_read():
    tracker = PositionsTracker(Positions({0: 0, 1: 0}, {0: 5, 1: 0}))
    assert tracker.is_bounded()
    assert not tracker.current_restriction().is_read
    tracker.try_claim({0: 7})  # records that arrived after the end was fixed
    assert tracker.current_restriction().is_read
    assert tracker.try_split(0) is None
    tracker.check_done()


def test_giving_up_the_rest_ends_without_a_residual():
    tracker = PositionsTracker(Positions({0: 3}))
    assert not tracker.try_claim(None)
    assert tracker.try_split(0) is None
    tracker.check_done()


def test_partitions_that_were_not_there_may_join():
    tracker = PositionsTracker(Positions({}))
    assert tracker.try_claim({4: 9})
    assert tracker.try_split(0)[1] == Positions({4: 9})


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_time_is_that_of_the_slowest_live_partition_and_never_goes_back():
    clock = Clock()
    times = RecordTimes(5.0, clock)
    times.observe({0: 100.0, 1: 50.0})
    assert times.advance() == 50.0
    times.observe({1: 40.0})  # late record
    assert times.advance() == 50.0
    clock.now += 4
    times.observe({0: 120.0})
    assert times.advance() == 50.0
    clock.now += 2  # partition 1 is silent now
    assert times.advance() == 120.0
    times.observe({1: 60.0})
    assert times.advance() == 120.0


def test_when_all_are_silent_time_goes_on_behind_the_clock():
    clock = Clock()
    times = RecordTimes(5.0, clock)
    assert times.advance() == 995.0
    times.observe({0: 997.0})
    assert times.advance() == 997.0
    clock.now += 60
    assert times.advance() == 1055.0
