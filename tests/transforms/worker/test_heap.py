"""What the garbage collector passes over in a stream, and what it takes all the same."""

from __future__ import annotations

import gc
import weakref

import pytest

from scoreline.transforms.worker.heap import is_settled, settle_heap


class Node:
    """An object that may refer to itself."""


def make_cycle():
    node = Node()
    node.itself = node
    return node


@pytest.fixture(autouse=True)
def thaw():
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_is_there_is_passed_over_and_what_comes_later_is_collected():
    kept = make_cycle()
    assert not is_settled()
    settle_heap()
    assert is_settled()
    assert not any(each is kept for each in gc.get_objects())

    later = weakref.ref(make_cycle())
    gc.collect()
    assert later() is None


def test_garbage_is_taken_whether_or_not_it_was_passed_over():
    before = make_cycle()
    gone = weakref.ref(before)
    settle_heap()
    del before
    gc.collect()
    assert gone() is not None
    settle_heap()
    assert gone() is None
