"""A folder of real models that changes while rows are scored; tests trigger each look."""

from __future__ import annotations

import dataclasses
import gc
import logging
import re
import time
import weakref

import pyarrow as pa
import pytest

from scoreline.lake.elements import RecordKey
from scoreline.models.artifact import digest_model
from scoreline.models.model_spec import ModelSpec
from scoreline.models.process import ModelProcess
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.servable import load_servable
from scoreline.models.signature import InputColumn
from scoreline.models.versions import choose_version
from scoreline.transforms import metrics
from scoreline.transforms.metrics import Tally
from scoreline.transforms.score import _ScoreStreamDoFn
from scoreline.transforms.scoring import ScoreSpec, score_batch
from scoreline.transforms.swap.shared import acquire_watcher, release_watcher
from scoreline.transforms.swap.watch import ModelWatcher, SwapSpec
from tests.model_zoo import save_litert, save_perilous

WEIGHT = {"good": 2.0, "near": 2.001, "far": -2.0, "renamed": 2.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models y = weight·a + b; one has the output z instead, one is broken."""
    folder = tmp_path_factory.mktemp("models")
    save_litert_that_mixes_rows(folder / "mixes.tflite")
    for kind, weight in WEIGHT.items():
        path = folder / f"{kind}.tflite"
        save_litert(path, weight=weight, output="z" if kind == "renamed" else "y")
    save_perilous(folder / "crashes_on_zeros.tflite", crashes=0.0)
    (folder / "broken.tflite").write_bytes((folder / "near.tflite").read_bytes()[:-200])
    return folder


def save_litert_that_mixes_rows(path):
    """Save y = 2·a + b, with a little of the mean of b over the call."""
    tf = import_tensorflow()
    specs = [tf.TensorSpec([None, 1], tf.float32, name=name) for name in ("a", "b")]
    module = tf.Module()
    module.serve = tf.function(
        lambda a, b: {"y": 2.0 * a + b + 0.01 * tf.reduce_mean(a)}, input_signature=specs
    )
    function = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    path.write_bytes(converter.convert())


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Folder:
    """A folder of versions, a watcher of it, and rows that it scores."""

    def __init__(self, path, models, **changes):
        self.path, self._models = path, models
        self.clock = Clock()
        self.add(1, "good")
        self.spec = self._spec(changes)
        self.watcher = ModelWatcher(self.spec, self.swap, self.clock)
        self.counts = Tally()

    def _spec(self, changes):
        first = str(self.path / "1.tflite")
        signature = load_servable(first).signature
        swap = SwapSpec(str(self.path), 0.02, 0.2, 1e6, signature)
        fields = {"max_disagreement", "max_latency_ratio"}
        self.swap = swap._replace(**{name: changes.pop(name) for name in fields & changes.keys()})
        reason = changes.pop("allow_impure", "")
        return ScoreSpec(
            checks_purity=True,
            allow_impure=reason,
            model=ModelSpec(path=first, digest=digest_model(first), **changes),
            inputs=tuple(InputColumn(s, s.name) for s in signature.inputs),
            outputs=(("y", "y", ""),),
            carried=("id",),
        )

    def add(self, number, kind):
        """Copy a model into the folder the recommended way: under another name first."""
        partial = self.path / "partial"
        partial.write_bytes((self._models / f"{kind}.tflite").read_bytes())
        partial.rename(self.path / f"{number}.tflite")

    def digest(self, number):
        return digest_model(str(self.path / f"{number}.tflite"))

    def name(self, number):
        (self.path / "SERVING").write_text(f"{number}.tflite\n")

    def look(self, times=1):
        for _ in range(times):
            self.watcher.look()

    def score(self, rows=2000):
        """Score rows like a step, and return the scores and the digest of the model."""
        batch = rows_of(rows)
        serving = self.watcher.take()
        scored, dead = score_batch(batch, *serving, Tally())
        self.watcher.offer(batch, dead)
        (digest,) = set(scored["model_digest"].to_pylist())
        assert digest == serving.spec.digest
        return scored["y"].to_pylist(), digest

    def serves(self, number, weight):
        """Return whether a version scores, with correct scores."""
        scores, digest = self.score(10)
        assert scores == pytest.approx([weight * i / 2 for i in range(10)])
        return digest == self.digest(number)

    def count(self, metric):
        self.watcher.report(self.counts)
        return self.counts.total(metric)


def rows_of(rows):
    return pa.RecordBatch.from_pydict(
        {
            "id": range(rows),
            "a": pa.array([i / 2 for i in range(rows)], pa.float32()),
            "b": pa.array([0.0] * rows, pa.float32()),
        }
    )


@pytest.fixture
def folder(tmp_path, models):
    return Folder(tmp_path, models)


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


def test_few_rows_are_enough_after_a_while(folder, caplog):
    folder.add(2, "near")
    folder.look(2)
    folder.score(40)
    folder.clock.now = 29.0
    folder.look()
    assert folder.watcher._candidate is not None
    folder.clock.now = 30.0
    folder.look()
    assert folder.serves(2, 2.001)
    assert "on 40 rows" in caplog.text


def test_a_handful_of_rows_is_never_enough(folder, caplog):
    folder.add(2, "near")
    folder.look(2)
    folder.score(31)
    folder.clock.now = 1000.0
    folder.look()
    assert folder.score(1)[1] == folder.digest(1)
    folder.look()
    assert folder.serves(2, 2.001)
    assert "on 32 rows" in caplog.text


def test_a_sample_of_large_rows_is_full_by_its_bytes(folder, caplog, monkeypatch):
    monkeypatch.setattr("scoreline.transforms.swap.judge._SAMPLE_BYTES", 300)
    folder.add(2, "near")
    folder.look(2)
    folder.score(12)
    folder.look()
    assert folder.watcher._candidate is not None
    folder.score(12)
    folder.look()
    assert "on 24 rows" in caplog.text
    assert folder.serves(2, 2.001)


def test_rows_that_the_old_model_cannot_score_are_no_sample(folder):
    folder.add(2, "near")
    folder.look(2)
    batch = rows_of(100).set_column(1, "a", pa.array([None, *[1.0] * 99], pa.float32()))
    _, dead = score_batch(batch, *folder.watcher.take(), Tally())
    folder.watcher.offer(batch, dead)
    folder.clock.now = 1000.0
    sample = folder.watcher._sample.take()
    assert sample.num_rows == 99
    assert sample["a"].null_count == 0


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
