"""Objects that the garbage collector skips in a stream, and objects that it still collects."""

from __future__ import annotations

import gc
import weakref

import pytest

from scoreline.transforms.worker.heap import importing, settle_heap, settle_heap_once


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
    settle_heap()
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


def test_a_process_is_settled_once():
    settle_heap_once()
    gc.unfreeze()
    settle_heap_once()
    assert gc.get_freeze_count() == 0


def test_imports_are_not_collected_and_skipped_later():
    gc.collect()
    with importing():
        assert not gc.isenabled()
        node = make_cycle()
        gone = weakref.ref(node)
    assert gc.isenabled()
    assert not any(each is node for each in gc.get_objects())
    del node
    gc.unfreeze()
    gc.collect()
    assert gone() is None
