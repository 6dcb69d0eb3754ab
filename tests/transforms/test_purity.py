"""The purity check on the first record batches of a worker."""

from __future__ import annotations

import dataclasses

import apache_beam as beam
import pyarrow as pa
import pytest

import scoreline
from scoreline.lake.elements import RecordKey
from scoreline.models.artifact import digest_model
from scoreline.models.errors import ImpureModel
from scoreline.models.model_spec import ModelSpec
from scoreline.models.servable import shared_servable
from scoreline.models.signature import InputColumn
from scoreline.transforms.kafka.ending import StreamRefused
from scoreline.transforms.purity import Purity, PurityGate, check_rows
from scoreline.transforms.score import _ScoreStreamDoFn
from scoreline.transforms.scoring import ScoreSpec, Serving
from tests.fakes import make_rows, save_model
from tests.impure_models import tf
from tests.model_zoo import save_function


def spec_of(path, outputs=("score",), **changes):
    servable = shared_servable(path, "serving_default")
    spec = ScoreSpec(
        model=ModelSpec(path=path, digest=digest_model(path)),
        inputs=tuple(InputColumn(s, s.name) for s in servable.signature.inputs),
        outputs=tuple((name, name, "") for name in outputs),
        carried=("id",),
    )
    return Serving(servable, dataclasses.replace(spec, **changes))


@pytest.fixture(scope="module")
def impure(tmp_path_factory):
    path = tmp_path_factory.mktemp("impure") / "model"
    spec = tf.TensorSpec([None], tf.float32, name="x")
    return save_function(path, lambda x: {"score": x - tf.reduce_mean(x)}, spec)


def batch_of(rows, first_id=0):
    return make_rows(first_id, max(rows, 1)).combine_chunks().to_batches()[0].slice(0, rows)


def test_the_message_names_the_row_by_its_key(impure):
    found = check_rows(batch_of(40), spec_of(impure))
    assert found.rows >= 32
    assert "of the row id=" in found.problem


def test_rows_that_fail_by_themselves_are_left_out(tmp_path):
    serving = spec_of(save_model(tmp_path / "strict", limit=10.0), ("score", "pair"))
    rows = make_rows(0, 200)
    x = [50.0 if i % 37 == 5 else None if i % 37 == 9 else i / 200 for i in range(200)]
    bad = rows.set_column(1, "x", pa.array(x, pa.float32())).combine_chunks().to_batches()[0]
    found = check_rows(bad, serving)
    assert found.rows > 100
    assert not found.problem
    all_bad = rows.set_column(1, "x", pa.array([50.0] * 200, pa.float32()))
    assert check_rows(all_bad.combine_chunks().to_batches()[0], serving) == Purity()


class Checks:
    """Counts checks, and answers as it is asked to."""

    def __init__(self, *answers):
        self.answers, self.rows = list(answers), []

    def __call__(self, batch, serving):
        self.rows.append(batch.num_rows)
        return Purity(batch.num_rows, self.answers.pop(0))


def test_a_gate_checks_the_first_rows_and_once_more_when_there_are_enough():
    checks = Checks("", "")
    gate = PurityGate("", checks)
    for rows in (0, 1, 20, 0, 11, 500, 500):
        gate.pass_through(batch_of(rows), None)
    assert checks.rows == [1, 32]
    assert gate.is_open


def test_a_gate_checks_a_large_first_batch_once():
    checks = Checks("")
    gate = PurityGate("", checks)
    for _ in range(3):
        gate.pass_through(batch_of(2000), None)
    assert checks.rows == [1024]


def test_a_gate_stays_shut_for_an_impure_model_and_opens_with_a_reason(caplog):
    gate = PurityGate("", Checks("wrong", "wrong"))
    for _ in range(2):
        with pytest.raises(ImpureModel, match="wrong"):
            gate.pass_through(batch_of(50), None)
    gate = PurityGate("because", Checks("wrong"))
    gate.pass_through(batch_of(2), None)
    assert gate.is_open
    assert caplog.messages == ["wrong. Allowed: because"]


def test_a_stream_stops_before_it_gives_a_row_to_its_sink(impure):
    spec = spec_of(impure, checks_purity=True).spec
    step = _ScoreStreamDoFn(spec, None)
    step.setup()
    key = RecordKey("topic", 0)
    with pytest.raises(StreamRefused, match="influence each other"):
        list(step.process((key, batch_of(40))))
    allowed = _ScoreStreamDoFn(dataclasses.replace(spec, allow_impure="because"), None)
    allowed.setup()
    assert [batch.num_rows for _, batch in allowed.process((key, batch_of(40)))] == [40]


@pytest.mark.parametrize("step", ["Score", "ScoreRows"])
def test_a_step_of_the_library_fails_in_words_of_its_arguments(impure, step):
    rows = make_rows(0, 40)
    pipeline = beam.Pipeline(runner="FnApiRunner")  # the default one may not wait for the end
    if step == "Score":
        some = pipeline | beam.Create([("key", batch_of(40))])
        _ = some | scoreline.Score(model=impure, keys=["id"])
    else:
        some = pipeline | beam.Create([[{"x": row["x"]} for row in rows.to_pylist()]])
        _ = some | beam.FlatMap(lambda rows: rows) | scoreline.ScoreRows(model=impure)
    with pytest.raises(Exception, match=r"model: expected the score.* with allow_impure REASON"):
        pipeline.run()
