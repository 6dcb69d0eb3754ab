"""Objects that the garbage collector skips in a stream, and objects that it still collects."""

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


def test_existing_objects_are_skipped_and_later_ones_are_collected():
    kept = make_cycle()
    assert not is_settled()
    settle_heap()
    assert is_settled()
    assert not any(each is kept for each in gc.get_objects())

    later = weakref.ref(make_cycle())
    gc.collect()
    assert later() is None


def test_garbage_is_collected_even_if_it_was_frozen():
    before = make_cycle()
    gone = weakref.ref(before)
    settle_heap()
    del before
    gc.collect()
    assert gone() is not None
    settle_heap()
    assert gone() is None
