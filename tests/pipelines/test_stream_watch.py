from __future__ import annotations

from scoreline.pipelines.stream_watch import Delays, Look


def test_an_open_transaction_is_told_of_once_it_is_long_and_then_now_and_then():
    delays = Delays("in")
    held = Look({0: 5, 1: 9}, {0: 18, 1: 9})
    assert delays.observe(held, 0.0) == []
    assert delays.observe(held, 20.0) == []
    (told,) = delays.observe(held, 30.0)
    assert told.startswith(
        "For 30 s, an open transaction holds back the records of partition 0 of topic in from "
        "offset 5 to 18. They are read once it ends."
    )
    assert delays.observe(held, 40.0) == []
    assert len(delays.observe(held, 640.0)) == 1


def test_transactions_that_come_and_go_are_not_told_of():
    delays = Delays("in")
    for second in range(0, 100, 10):
        assert delays.observe(Look({0: second}, {0: 200}), float(second)) == []
    assert delays.observe(Look({0: 200}, {0: 200}), 100.0) == []
    assert delays.observe(Look({0: 200}, {0: 200}), 200.0) == []


def test_a_partition_without_a_leader_is_told_of():
    delays = Delays("in")
    look = Look({}, {}, (3,))
    assert delays.observe(look, 0.0) == []
    (told,) = delays.observe(look, 31.0)
    assert told.startswith("For 31 s, partition 3 of topic in has no leader. Its records are read")
    assert delays.observe(Look({3: 1}, {3: 1}), 40.0) == []
    assert delays.observe(look, 50.0) == []
