"""Held-out rows, and variants of a model whose faults are known."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from scoreline.models.compare.cost import Pair
from scoreline.models.compare.gate import Limits, judge
from scoreline.models.compare.held_out import HeldOut, Truth
from scoreline.models.compare.quality import Tolerance

SEEDS = range(20)
ROWS = 3000
LIMITS = Limits(tolerance=Tolerance(0.005), output="score")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Rows:
    """Rows whose parent gives the true probability of a label; `latent` is what it depends on."""

    def __init__(self, seed, rows=ROWS):
        self.rng = np.random.default_rng(seed)
        self.latent = self.rng.normal(size=rows)
        self.score = sigmoid(1.2 * self.latent - 1).astype(np.float32)
        self.aux = self.rng.normal(size=rows).astype(np.float32)
        self.label = (self.rng.random(rows) < self.score).astype(float)

    def nearly(self, noise=0.002):
        """Scores that differ from the parent's by rounding."""
        moved = self.score + noise * self.rng.normal(size=len(self.score))
        return np.clip(moved, 0, 1).astype(np.float32)

    def held_out(self, score, aux=None, *, label=True, slices=None, at=slice(None), lost=0):
        def outputs(score, aux):
            columns = [pa.array(score[at]), pa.array(aux[at])]
            return pa.RecordBatch.from_arrays(columns, ["score", "aux"])

        return HeldOut(
            parent=outputs(self.score, self.aux),
            variant=outputs(score, self.aux if aux is None else aux),
            truth=Truth(label=self.label[at] if label else None, slices=slices or {}),
            lost=lost,
        )

    def pairs(self, ratio, count=7, noise=0.02):
        """CPU times with noise, on a machine whose speed changes from pair to pair."""
        speed = 2.0 * np.exp(0.1 * self.rng.normal(size=count))
        apart = np.exp(noise * self.rng.normal(size=(2, count)))
        return [
            Pair(float(s * a), float(s * ratio * b)) for s, a, b in zip(speed, *apart, strict=True)
        ]


def judged(held_out, limits=LIMITS, pairs=None):
    """Return the verdict; it can always be written as JSON, and its parts agree."""
    verdict = judge(held_out, limits, pairs)
    json.dumps(asdict(verdict), allow_nan=False)
    assert verdict.admitted == (not verdict.reasons)
    return verdict
