from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.transforms.few_sizes import MAX_ROWS, fill_up, round_rows
from scoreline.transforms.metrics import Tally
from scoreline.transforms.scoring import score_batch
from tests.fakes import expected_scores, make_rows
from tests.transforms.test_score import batch_of, spec_of


@given(st.integers(1, 40_000), st.sampled_from([1, 7, 100, MAX_ROWS]))
def test_a_call_is_filled_up_by_an_eighth_at_most(rows, max_rows):
    size = round_rows(rows, max_rows)
    assert rows <= size <= rows * 1.125
    assert -(-size // max_rows) == -(-rows // max_rows)  # no call more
    assert round_rows(size, max_rows) == size


def test_a_stream_has_fewer_than_a_hundred_sizes():
    assert len({round_rows(rows) for rows in range(1, MAX_ROWS + 1)}) < 100
    assert round_rows(0) == 0


def test_rows_are_filled_up_with_the_last_one():
    columns = {"a": pa.array([1, 2, None]), "b": pa.array([["x"], [], ["y", "z"]])}
    filled = fill_up(columns, 3, 5)
    assert filled["a"].to_pylist() == [1, 2, None, None, None]
    assert filled["b"].to_pylist() == [["x"], [], ["y", "z"], ["y", "z"], ["y", "z"]]


@pytest.mark.parametrize("batch_rows", [None, 50])
def test_scores_of_few_sizes_are_those_of_the_rows(model, monkeypatch, batch_rows):
    servable, spec = spec_of(model, has_few_sizes=True)
    spec = dataclasses.replace(spec, model=dataclasses.replace(spec.model, batch_rows=batch_rows))
    sizes, real = [], servable.predict

    def predict(features, rows, *args, **kwargs):
        sizes.append(rows)
        assert {len(column) for column in features.values()} == {rows}
        return real(features, rows, *args, **kwargs)

    monkeypatch.setattr(servable, "predict", predict)
    table = make_rows(0, 170)
    for rows in (1, 9, 17, 97, 170):
        scored, dead = score_batch(batch_of(table.slice(0, rows)), servable, spec, Tally())
        assert not dead
        got = dict(zip(scored["id"].to_pylist(), scored["late"].to_pylist(), strict=True))
        assert got == pytest.approx(expected_scores(table.slice(0, rows)))
    assert sizes == ([1, 9, 18, 104, 176] if batch_rows is None else [1, 9, 18, 98, 170])
