"""A folder of real models that changes while rows are scored; tests trigger each look."""

from __future__ import annotations

import re

import pytest

from scoreline.models.versions import choose_version
from scoreline.transforms import metrics
from scoreline.transforms.swap.watch import ModelWatcher
from tests.transforms.swap.folder import Folder


def test_a_new_version_takes_over_once_its_files_rest_and_a_sample_agrees(folder, caplog):
    folder.look(3)
    assert folder.serves(1, 2.0)
    folder.add(2, "near")
    folder.look()
    assert folder.watcher._candidate is None, "loaded at first sight, when it may be copied yet"
    folder.look()
    assert folder.serves(1, 2.0), "took over before any row was compared"
    folder.score()
    folder.look()
    assert folder.serves(2, 2.001)
    assert folder.count(metrics.MODEL_SWAPS) == 1
    assert folder.count(metrics.CANDIDATES_REFUSED) == 0
    (line,) = caplog.messages
    assert line.startswith(f"Model 2.tflite took over from 1.tflite ({folder.digest(2)}): disagree")
    assert line.endswith("on 1,024 rows")
    folder.look(3)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("far", {}, r"disagreement of at most 0.2 .* got \d.* about 'y' on 1,024 rows"),
        (
            "near",
            {"max_disagreement": 1e-6},
            r"at most 1e-06 .* got 0.00\d+ about 'y'",
        ),
        ("near", {"max_latency_ratio": 0.0}, r"at most 0 times the model's time .* for 1,024 rows"),
        ("renamed", {}, r"output 'y' is missing; output 'z' is new"),
        ("broken", {}, r"does not load"),
    ],
)
def test_a_version_that_breaks_a_limit_is_refused_once_with_the_reason(
    tmp_path, models, caplog, kind, changes, told
):
    folder = Folder(tmp_path, models, **changes)
    folder.add(2, kind)
    for _ in range(6):
        folder.look()
        folder.score()
    assert folder.serves(1, 2.0)
    (line,) = caplog.messages
    assert line.startswith(f"Model 2.tflite is refused ({folder.digest(2)}), 1.tflite continues: ")
    assert re.search(told, line), line
    assert folder.count(metrics.CANDIDATES_REFUSED) == 1
    assert folder.count(metrics.MODEL_SWAPS) == 0
    # A job that starts now, or a restarted worker, does not start with it.
    assert choose_version(str(tmp_path)).name == "1.tflite"
    mark = tmp_path / "2.tflite.refused"
    assert re.search(told, mark.read_text())
    # It is tried again on request, and if its files change.
    mark.unlink()
    for _ in range(4):
        folder.look()
        folder.score()
    assert folder.count(metrics.CANDIDATES_REFUSED) == 2
    folder.add(2, "good")
    folder.look(4)
    assert folder.serves(2, 2.0)


def test_files_that_are_still_copied_are_left_alone_and_tried_when_they_are_whole(folder, caplog):
    whole = (folder._models / "near.tflite").read_bytes()
    copied = folder.path / "2.tflite"
    for size in range(100, len(whole), len(whole) // 5):
        copied.write_bytes(whole[:size])
        folder.look()
        folder.score()
    assert caplog.messages == []
    folder.look(2)  # the copy has stopped growing
    assert "2.tflite is refused" in caplog.text
    copied.write_bytes(whole)
    folder.look(2)
    folder.score()
    folder.look()
    assert folder.serves(2, 2.001)


def test_files_that_change_while_they_are_loaded_are_not_used(folder, monkeypatch):
    folder.add(2, "near")
    load = ModelWatcher._load

    def load_and_change(self, *args):
        loaded = load(self, *args)
        folder.add(2, "far")
        return loaded

    monkeypatch.setattr(ModelWatcher, "_load", load_and_change)
    folder.look(2)
    monkeypatch.undo()
    assert folder.watcher._candidate is None
    assert folder.count(metrics.CANDIDATES_REFUSED) == 0
    folder.look(2)
    folder.score()
    folder.look()
    assert folder.serves(1, 2.0)
    assert folder.count(metrics.CANDIDATES_REFUSED) == 1


def test_a_version_that_is_removed_changes_nothing(folder, caplog):
    folder.add(2, "near")
    folder.look(2)
    folder.score()
    folder.look()
    (folder.path / "2.tflite").unlink()
    for _ in range(4):
        folder.look()
        folder.score()
    assert len(caplog.messages) == 1
    assert folder.score(10)[0] == pytest.approx([2.001 * i / 2 for i in range(10)])
    (folder.path / "1.tflite").unlink()
    folder.look(4)
    assert "found none. 2.tflite continues" in caplog.messages[1]
    assert len(caplog.messages) == 2


def test_where_nothing_can_be_written_it_is_refused_once_all_the_same(folder, caplog):
    (folder.path / "2.tflite.refused").mkdir()
    folder.add(2, "far")
    for _ in range(6):
        folder.look()
        folder.score()
    folder.name(1)
    folder.look(2)
    (folder.path / "SERVING").unlink()
    for _ in range(6):
        folder.look()
        folder.score()
    assert folder.serves(1, 2.0)
    (line,) = caplog.messages
    assert "its files change, or the job restarts (the mark failed: " in line
    assert sorted(p.name for p in folder.path.iterdir()) == [
        "1.tflite",
        "2.tflite",
        "2.tflite.refused",
    ]


@pytest.mark.parametrize("reason", ["", "a demo"], ids=["refused", "allowed"])
def test_a_version_that_mixes_rows_is_refused_unless_that_is_allowed(
    tmp_path, models, caplog, reason
):
    folder = Folder(tmp_path, models, allow_impure=reason)
    folder.add(2, "mixes")
    folder.look(2)
    folder.score()
    folder.look()
    assert folder.count(metrics.MODEL_SWAPS) == bool(reason)
    assert folder.count(metrics.CANDIDATES_REFUSED) == (not reason)
    assert "rows of a call influence each other: output 'y' of the row id=" in caplog.text
