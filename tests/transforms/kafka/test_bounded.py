from __future__ import annotations

import pytest

from scoreline.transforms.kafka.bounded import BoundedEnd
from scoreline.transforms.kafka.ending import StreamEnds


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def poll_in_vain(end, clock, polls=30, seconds=90.0):
    """Poll without an answer, for some time."""
    for _ in range(polls):
        end.observe(is_empty=True)
        clock.now += seconds / polls


CAUSES = {"transaction": (5, "but an open transaction has held back those from 5 on for 90 s")}
# The broker cannot read a batch with a damaged length, and reports the end before it.
CAUSES["damage"] = (18, "got none from 5 on for 90 s. Check that its broker runs")


@pytest.mark.parametrize(("stable", "told"), CAUSES.values(), ids=CAUSES)
def test_a_partition_that_stops_before_its_end_ends_the_job_after_a_while(clock, stable, told):
    end = BoundedEnd("in", {0: 18, 1: 5}, {0: stable}.get, clock)
    end.observe(is_empty=False)
    poll_in_vain(end, clock, seconds=89)
    end.check({0: 5, 1: 5})
    clock.now += 1
    with pytest.raises(StreamEnds) as e:
        end.check({0: 5, 1: 5})
    assert "of partition 0 of topic in up to offset 18, " in str(e.value)
    assert told in str(e.value)
    end.observe(is_empty=False)  # it has ended
    end.check({0: 9, 1: 5})


def test_a_slow_model_is_not_taken_for_a_silent_broker(clock):
    end = BoundedEnd("in", {0: 18}, {0: 18}.get, clock)
    for _ in range(5):
        end.observe(is_empty=False)
        clock.now += 1000
        end.check({0: 9})
        end.observe(is_empty=True)
        clock.now += 1000
        end.check({0: 9})


def test_a_job_without_an_end_or_at_its_end_waits(clock):
    for ends in (None, {0: 5}):
        end = BoundedEnd("in", ends, {}.get, clock)
        poll_in_vain(end, clock, seconds=10_000)
        end.check({0: 5})
