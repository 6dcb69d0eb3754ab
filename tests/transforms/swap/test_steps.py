"""Steps, threads and processes that score while the model changes."""

from __future__ import annotations

import dataclasses
import logging
import time
import weakref

import pyarrow as pa
import pytest

from scoreline.lake.elements import RecordKey
from scoreline.models.process import ModelProcess
from scoreline.transforms.score import _ScoreStreamDoFn
from scoreline.transforms.swap.shared import acquire_watcher, release_watcher
from scoreline.transforms.swap.watch import ModelWatcher
from tests.transforms.swap.folder import Folder, rows_of


def test_the_old_model_is_freed(folder):
    servable = folder.watcher.take().servable
    servable.itself = servable  # a reference cycle, like a loaded SavedModel
    old = weakref.ref(servable)
    del servable
    folder.add(2, "near")
    folder.look(2)
    folder.score()
    folder.look()
    assert folder.serves(2, 2.001)
    folder.look()
    assert old() is None


def test_steps_that_begin_later_begin_with_what_took_over(folder, models):
    folder.add(2, "near")
    folder.look(2)
    folder.score()
    folder.look()
    assert ModelWatcher(folder.spec, folder.swap).take().spec.digest == folder.digest(2)
    folder.name(1)
    assert ModelWatcher(folder.spec, folder.swap).take().spec.digest == folder.digest(1)


def test_a_worker_whose_version_is_gone_begins_with_the_highest(folder):
    folder.add(3, "near")
    spec = dataclasses.replace(
        folder.spec, model=dataclasses.replace(folder.spec.model, batch_rows=100)
    )
    assert ModelWatcher(spec, folder.swap).take().spec.digest == folder.digest(1)
    (folder.path / "1.tflite").unlink()
    spec = dataclasses.replace(
        folder.spec, model=dataclasses.replace(folder.spec.model, batch_rows=200)
    )
    assert ModelWatcher(spec, folder.swap).take().spec.digest == folder.digest(3)


def test_threads_of_a_process_share_a_watcher_that_stops_with_the_last(folder):
    one = acquire_watcher(folder.spec, folder.swap)
    two = acquire_watcher(folder.spec, folder.swap)
    assert one is two
    thread = one._thread
    release_watcher(folder.spec, one)
    assert thread.is_alive()
    release_watcher(folder.spec, two)
    assert not thread.is_alive()
    assert acquire_watcher(folder.spec, folder.swap) is one
    release_watcher(folder.spec, one)


KEY = RecordKey("topic", 0)


@pytest.mark.parametrize("batch_timeout_s", [None, 60.0], ids=["shared", "own_process"])
def test_the_step_scores_on_and_letters_name_the_model_too(tmp_path, models, batch_timeout_s):
    folder = Folder(tmp_path, models, batch_timeout_s=batch_timeout_s)
    folder.watcher.close()
    a = [None, *map(float, range(1999))]
    batch = rows_of(2000).set_column(1, "a", pa.array(a, pa.float32()))
    step = _ScoreStreamDoFn(folder.spec, folder.swap)
    step.setup()
    try:
        first = step._scorer.serving.servable
        digests, deadline = [], time.monotonic() + 60
        folder.add(2, "near")
        while folder.digest(2) not in digests:
            assert time.monotonic() < deadline
            (dead, letters), (alive, scored) = step.process((KEY, batch))
            assert (dead.are_dead, alive.are_dead) == (True, False)
            (digest,) = set(scored["model_digest"].to_pylist())
            assert letters["_model_digest"].to_pylist() == [digest]
            weight = {folder.digest(1): 2.0, folder.digest(2): 2.001}[digest]
            assert scored["y"].to_pylist() == pytest.approx([weight * value for value in a[1:]])
            digests.append(digest)
        if batch_timeout_s:
            assert isinstance(first, ModelProcess)
            assert first._child is None, "the old model's process still runs"
    finally:
        step.teardown()


def test_a_model_that_crashes_costs_its_own_process_only(tmp_path, models, caplog):
    folder = Folder(tmp_path, models, batch_timeout_s=30.0)
    try:
        folder.add(2, "crashes_on_zeros")
        folder.look(2)
        assert folder.serves(1, 2.0)
        (line,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        assert "2.tflite crashed: its process died with signal" in line
    finally:
        folder.watcher.close()
