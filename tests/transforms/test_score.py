from __future__ import annotations

import itertools

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.lake.elements import BatchKey, DeadRows, Piece, Shard
from scoreline.lake.table.letters import (
    REASON_COLUMNS,
    locate_dead_letters,
    locate_row,
    to_dead_letters,
)
from scoreline.models.artifact import digest_model
from scoreline.models.model_spec import ModelSpec
from scoreline.models.servable import shared_servable
from scoreline.models.signature import InputColumn
from scoreline.transforms.metrics import Tally
from scoreline.transforms.score import ModelFails, Score, _ScoreDoFn
from scoreline.transforms.scoring import ScoreSpec, score_batch
from tests.fakes import expected_scores, make_rows, save_model
from tests.strategies import record_batches


def spec_of(model, **changes):
    servable = shared_servable(model, "serving_default")
    fields = {
        "model": ModelSpec(path=model, digest=digest_model(model)),
        "inputs": tuple(InputColumn(s, s.name) for s in servable.signature.inputs),
        "outputs": (("score", "late", ""),),
        "carried": ("id",),
    }
    return servable, ScoreSpec(**{**fields, **changes})


@pytest.fixture(scope="module")
def strict_model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("strict") / "model", limit=10.0)


def batch_of(table):
    return table.combine_chunks().to_batches()[0]


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 200), max_size=5))
def test_batch_boundaries_do_not_change_scores(model, cuts):
    servable, spec = spec_of(model)
    table = make_rows(0, 200)
    batch = batch_of(table)
    edges = [0, *sorted(cuts), 200]
    got = {}
    for start, stop in itertools.pairwise(edges):
        scored, dead = score_batch(batch.slice(start, stop - start), servable, spec, Tally())
        assert not dead
        got.update(zip(scored["id"].to_pylist(), scored["late"].to_pylist(), strict=True))
    wanted = expected_scores(table)
    assert got.keys() == wanted.keys()
    np.testing.assert_allclose([got[i] for i in wanted], list(wanted.values()), rtol=1e-6)


@settings(max_examples=50)
@given(batch=record_batches())
def test_rows_in_are_rows_scored_and_rows_dead(model, batch):
    servable, spec = spec_of(model, carried=("b",))
    scored, dead = score_batch(batch, servable, spec, Tally())
    assert scored.num_rows + sum(len(d.rows) for d in dead) == batch.num_rows
    assert scored.schema.names == ["b", "late", "model_digest"]


def test_rows_that_are_null_and_rows_of_a_failing_call_leave_apart(tmp_path):
    servable, spec = spec_of(save_model(tmp_path / "strict", limit=10.0))
    table = make_rows(0, 4).set_column(1, "x", pa.array([1, None, 99, 2], pa.float32()))
    scored, dead = score_batch(batch_of(table), servable, spec, Tally())
    assert scored["id"].to_pylist() == [0, 3]
    assert [(list(d.rows), d.step) for d in dead] == [([1], "BuildFeatures"), ([2], "Predict")]
    assert dead[1].reasons[0].startswith("InvalidArgumentError: ")


@settings(max_examples=20)
@given(bad=st.sets(st.integers(0, 99), min_size=1), missing=st.sets(st.integers(0, 99)))
def test_neighbours_of_rows_that_fail_get_the_scores_of_a_clean_run(strict_model, bad, missing):
    servable, spec = spec_of(strict_model)
    clean = make_rows(0, 100)
    x = [
        None if i in missing else 99.0 if i in bad else v
        for i, v in enumerate(clean["x"].to_pylist())
    ]
    table = clean.set_column(1, "x", pa.array(x, pa.float32()))
    scored, dead = score_batch(batch_of(table), servable, spec, Tally())
    assert {row for d in dead for row in d.rows} == bad | missing
    wanted = expected_scores(clean)
    assert scored["id"].to_pylist() == [i for i in wanted if i not in bad | missing]
    got = scored["late"].to_pylist()
    np.testing.assert_allclose(got, [wanted[i] for i in scored["id"].to_pylist()], rtol=1e-6)


def shard_of(number=3):
    return Shard("date=1", "0" * 15, "", number, 4, [Piece("f.parquet", 0, 1, 50, 10)], 10)


def with_x(values):
    table = make_rows(0, len(values)).set_column(1, "x", pa.array(values, pa.float32()))
    return batch_of(table)


@pytest.mark.parametrize("key", ["batch 7", 7, ("a", 1)], ids=["text", "number", "tuple"])
def test_score_gives_one_batch_for_each_and_dead_letters_beside_under_any_key(model, key):
    _, spec = spec_of(model)
    batch = with_x([None, *range(9)])
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        out = pipeline | beam.Create([(key, batch)]) | Score(spec=spec)
        scores = out.scores | "Scores" >> beam.MapTuple(lambda k, b: (k, b.num_rows))
        letters = out.dead_letters | "Dead" >> beam.FlatMapTuple(_places)
        assert_that(scores, equal_to([(key, 9)]), label="CheckScores")
        assert_that(letters, equal_to([(key, 0, 0, "BuildFeatures")]), label="CheckLetters")


def _places(key, letters):
    return [(key, row["id"], row["_row"], row["_step"]) for row in letters.to_pylist()]


def process_all(spec, *elements):
    """Return what the step of Score gives, scores and dead letters, in one bundle."""
    step = _ScoreDoFn(spec)
    step.setup()
    scores, dead = [], []
    for element in elements:
        for out in step.process(element):
            is_dead = isinstance(out, beam.pvalue.TaggedOutput)
            (dead if is_dead else scores).append(out.value if is_dead else out)
    step.teardown()
    return scores, dead


def test_a_batch_of_which_every_row_fails_is_dead_letters(strict_model):
    _, spec = spec_of(strict_model)
    good, bad = with_x([1.0] * 100), with_x([99.0] * 100)
    scores, dead = process_all(spec, ("good", good), ("bad", bad), ("good", good))
    assert [(key, batch.num_rows) for key, batch in scores] == [
        ("good", 100),
        ("bad", 0),
        ("good", 100),
    ]
    assert scores[1][1].schema == scores[0][1].schema
    ((key, letters),) = dead
    assert (key, letters.num_rows, letters["_row"].to_pylist()) == ("bad", 100, list(range(100)))
    assert "every one of 64 rows" in letters["_reason"][0].as_py()


def test_a_batch_of_which_every_row_fails_costs_its_shard_only(strict_model):
    _, spec = spec_of(strict_model)
    good, bad = with_x([1.0] * 100), with_x([99.0] * 100)
    keys = [BatchKey(shard_of(n), number, 0, 100, last=False) for n in (1, 2) for number in (0, 1)]
    end = BatchKey(shard_of(2), 2, 0, 0, last=True)
    scores, dead = process_all(
        spec,
        (keys[0], good),
        (keys[1], bad),
        (keys[2], bad),
        (keys[3], good),
        (end, good.slice(0, 0)),
    )
    assert not dead
    assert [(k._replace(error=""), b.num_rows) for k, b in scores] == [
        (keys[0], 100),
        (keys[1], 0),
        (keys[2], 0),
        (keys[3], 0),  # nothing more of a shard that failed is scored
        (end, 0),
    ]
    assert ["the model fails" in key.error for key, _ in scores] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_a_model_that_fails_on_all_rows_of_two_batches_fails_the_job(strict_model):
    _, spec = spec_of(strict_model)
    bad = with_x([99.0] * 100)
    with pytest.raises(ModelFails, match="every row of two batches"):
        process_all(spec, ("one", bad), ("two", bad))


def test_a_stored_dead_letter_says_where_its_row_was():
    batch = with_x([None, *range(9)])
    letters = to_dead_letters(
        batch, DeadRows([0, 3], ["null", "late"], "BuildFeatures"), "sha256:1"
    )
    stored = locate_dead_letters(BatchKey(shard_of(), 1, 4, 10, last=False), letters)
    assert stored.schema.names == [*batch.schema.names, *REASON_COLUMNS]
    wanted = {"_shard": 3, "_run_id": "0" * 15, "_model_digest": "sha256:1", "_file": "f.parquet"}
    assert [{name: row[name] for name in wanted} for row in stored.to_pylist()] == [wanted] * 2
    assert stored["_file_row"].to_pylist() == [54, 57]
    assert stored["_reason"].to_pylist() == ["null", "late"]


def test_row_of_a_shard_is_found_in_its_file():
    pieces = [Piece("a", 2, 1, 20, 5), Piece("b", 0, 1, 0, 5)]
    assert [locate_row(pieces, row) for row in (0, 4, 5, 9)] == [
        ("a", 20),
        ("a", 24),
        ("b", 0),
        ("b", 4),
    ]
    with pytest.raises(ValueError, match="one 1 rows after its end"):
        locate_row(pieces, 11)
