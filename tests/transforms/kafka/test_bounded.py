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


def test_a_transaction_that_holds_records_back_ends_the_job_after_a_while(clock):
    end = BoundedEnd("in", {0: 18, 1: 5}, {0: 5}.get, clock)
    end.observe({0: 5, 1: 5})
    clock.now += 89
    end.check({0: 5, 1: 5})
    clock.now += 1
    with pytest.raises(StreamEnds, match="of partition 0 of topic in up to offset 18, but an open"):
        end.check({0: 5, 1: 5})
    end.observe({0: 9})  # it has ended, and another one is open
    end.check({0: 9, 1: 5})
    end.observe({0: 18})
    clock.now += 1000
    end.check({0: 18, 1: 5})


def test_a_partition_that_sends_nothing_ends_the_job_and_a_slow_model_does_not(clock):
    end = BoundedEnd("in", {0: 18, 1: 5}, {0: 18}.get, clock)
    end.observe({1: 5})
    clock.now += 1000  # the model
    end.check({1: 5})
    for _ in range(29):
        end.observe({})
        clock.now += 10
    end.check({0: 3, 1: 5})
    end.observe({})
    with pytest.raises(
        StreamEnds, match="partition 0 of topic in up to offset 18, got none from 3"
    ):
        end.check({0: 3, 1: 5})
    end.observe({0: 4})
    end.check({0: 4, 1: 5})


def test_a_log_that_is_not_whole_is_told_from_a_transaction(clock):
    """The broker cannot read a batch with a damaged length, and reports the end before it."""
    end = BoundedEnd("in", {0: 50}, {0: 50}.get, clock)
    end.observe({0: 20})
    clock.now += 90
    with pytest.raises(StreamEnds, match="got none from 20 on for 90 s"):
        end.check({0: 20})


def test_a_job_without_an_end_waits(clock):
    end = BoundedEnd("in", None, {}.get, clock)
    end.observe({0: 5})
    for _ in range(100):
        end.observe({})
        clock.now += 100
    end.check({0: 5})
