"""The file SERVING names the version that scores, without a comparison."""

from __future__ import annotations

import gc
import weakref

import pytest


def test_going_back_is_one_file_and_needs_no_agreement(folder, caplog):
    folder.add(2, "near")
    folder.look(2)
    folder.score()
    folder.look()
    assert folder.serves(2, 2.001)
    folder.add(1, "far")
    folder.name(1)
    folder.look(2)  # no new row since
    assert folder.serves(1, -2.0)
    assert "Model 1.tflite took over from 2.tflite" in caplog.text
    assert "named in SERVING" in caplog.text
    folder.add(3, "near")
    folder.look(3)
    assert folder.serves(1, -2.0), "what SERVING names stays, whatever comes"
    (folder.path / "SERVING").unlink()
    folder.look(2)
    folder.score()
    folder.look()
    assert folder.serves(1, -2.0)
    assert "Model 3.tflite is refused" in caplog.text  # it disagrees with the distant model
    folder.name(3)
    folder.look(2)
    assert folder.serves(3, 2.001)
    assert not (folder.path / "3.tflite.refused").exists(), "somebody decided otherwise"


@pytest.mark.parametrize(
    ("kind", "told"),
    [("renamed", "output 'z' is new"), ("broken", "does not load"), (None, "got '2.tflite'")],
)
def test_a_named_version_that_cannot_score_does_not_either(folder, caplog, kind, told):
    if kind:
        folder.add(2, kind)
    folder.name(2)
    folder.look(4)
    assert folder.serves(1, 2.0)
    assert told in caplog.text
    assert len(caplog.messages) == 1
    assert list(folder.path.glob("*.refused")) == []


def test_a_candidate_is_dropped_when_another_is_to_serve(folder):
    folder.add(2, "near")
    folder.look(2)
    waiting = weakref.ref(folder.watcher._candidate.servable)
    folder.add(3, "good")
    folder.name(3)
    folder.look(3)
    gc.collect()
    assert waiting() is None
    assert not folder.watcher._sample.is_wanted
    assert folder.score(10)[1] == folder.digest(1)  # version 3 is the same model
