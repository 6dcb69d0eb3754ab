"""A folder of real models that changes while rows are scored; tests trigger each look."""

from __future__ import annotations

import pyarrow as pa
import pytest

from scoreline.models.artifact import digest_model
from scoreline.models.model_spec import ModelSpec
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.servable import load_servable
from scoreline.models.signature import InputColumn
from scoreline.transforms.metrics import Tally
from scoreline.transforms.scoring import ScoreSpec, score_batch
from scoreline.transforms.swap.watch import ModelWatcher, SwapSpec
from tests.model_zoo import save_litert, save_perilous

WEIGHT = {"good": 2.0, "near": 2.001, "far": -2.0, "renamed": 2.0}


def save_models(folder):
    """Save models y = weight·a + b; one has the output z instead, one is broken."""
    folder.mkdir()
    save_litert_that_mixes_rows(folder / "mixes.tflite")
    for kind, weight in WEIGHT.items():
        path = folder / f"{kind}.tflite"
        save_litert(path, weight=weight, output="z" if kind == "renamed" else "y")
    save_perilous(folder / "crashes_on_zeros.tflite", crashes=0.0)
    (folder / "broken.tflite").write_bytes((folder / "near.tflite").read_bytes()[:-200])


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
