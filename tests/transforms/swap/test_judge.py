from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from scoreline.lake.elements import DeadRows
from scoreline.models.model_spec import ModelSpec
from scoreline.transforms.metrics import PREDICT_MS
from scoreline.transforms.scoring import Scored, ScoreSpec, Serving
from scoreline.transforms.swap.judge import Comparison, compare

SPEC = ScoreSpec(
    model=ModelSpec(path="m", digest="sha256:0"),
    inputs=(),
    outputs=(("y", "score", ""), ("c", "class", "")),
    carried=("id",),
)
ROWS = 100
SAMPLE = pa.RecordBatch.from_pydict({"id": range(ROWS)})


class Answers:
    """The results of a model for the sample: scores, classes, dead rows, and time."""

    def __init__(self, scores, classes=("a",) * ROWS, dead=(), times_ms=(1.0,)):
        alive = pa.array(np.isin(np.arange(ROWS), list(dead), invert=True))
        whole = pa.RecordBatch.from_pydict(
            {"id": range(ROWS), "score": pa.array(scores), "class": pa.array(classes)}
        )
        letters = [DeadRows(list(dead), ["bad"] * len(dead), "Predict")] if dead else []
        self.scored = Scored(whole.filter(alive), letters)
        self.times_ms = list(times_ms)
        self.calls = 0


def score(batch, servable, spec, timers):
    assert batch is SAMPLE
    timers.count(PREDICT_MS, servable.times_ms[servable.calls % len(servable.times_ms)])
    servable.calls += 1
    return servable.scored


def compared(old, new):
    return compare(SAMPLE, Serving(old, SPEC), Serving(new, SPEC), score)


def line(low=0.0):
    return np.linspace(low, low + 1, ROWS)


def test_the_output_that_differs_most_counts():
    found = compared(Answers(line()), Answers(line(0.01), ["b"] * 30 + ["a"] * 70))
    assert found[:3] == (ROWS, 0.3, "class")
    found = compared(Answers(line()), Answers(line(0.1), ["b"] * 30 + ["a"] * 70))
    assert found.column == "score"
    assert found.disagreement == pytest.approx(0.1 / np.std(line()))


def test_rows_that_only_the_old_model_can_score_count():
    found = compared(Answers(line()), Answers(line(), dead=range(10, 35)))
    assert found[:3] == (ROWS, 0.25, "")
    (problem,) = found.find_problems(0.2, 2.0)
    assert problem.endswith("got 0.25 about which rows can be scored on 100 rows")
    # Rows that one model lost are left out on both sides, in any order.
    found = compared(Answers(line(), dead=[3, 50]), Answers(line(), dead=[1, 50, 99]))
    assert found.disagreement == 2 / 98
    assert compared(Answers(line(), dead=[3]), Answers(line())).disagreement == 0
    assert compared(Answers(line()), Answers(line(), dead=range(ROWS))).disagreement == 1


def test_the_fastest_of_several_turns_counts():
    slow_once = Answers(line(), times_ms=[90.0, 2.0, 3.0, 2.5, 2.1])
    found = compared(slow_once, Answers(line(), times_ms=[5.0, 6.0, 3.0, 7.0, 9.0]))
    assert found.latency_ratio == 1.5
    assert slow_once.calls == 5


def test_slow_models_have_fewer_turns(monkeypatch):
    monkeypatch.setattr("scoreline.transforms.swap.judge._MAX_SECONDS", 0.0)
    slow = Answers(line())
    compared(slow, Answers(line()))
    assert slow.calls == 2


@pytest.mark.parametrize("value", [0.21, math.inf, math.nan])
def test_each_exceeded_limit_is_reported(value):
    assert Comparison(ROWS, 0.2, "y", 2.0).find_problems(0.2, 2.0) == []
    told = Comparison(ROWS, value, "y", value * 10).find_problems(0.2, 2.0)
    assert told[0].startswith(
        "expected a disagreement of at most 0.2 (--swap_max_disagreement), got "
    )
    assert "at most 2 times the model's time (--swap_max_latency_ratio)" in told[1]
