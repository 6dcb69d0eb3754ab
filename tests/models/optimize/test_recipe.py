"""Recipes: replayed they make the same variant, and what cannot be replayed is refused whole."""

from __future__ import annotations

import pytest

from scoreline.models.errors import ModelError
from scoreline.models.optimize.frozen import freeze
from scoreline.models.optimize.litert import to_litert
from scoreline.models.optimize.recipe import Step, apply_recipe, read_recipe, to_recipe
from tests.models.optimize.models import save_dense


def test_a_recipe_that_is_replayed_makes_the_same_variant(tmp_path):
    model = freeze(save_dense(tmp_path / "parent"))
    made = to_litert(model, 16, ["score"])
    text = to_recipe(made.passes)
    assert text == (
        "passes:\n- litert_float32:\n    version: 1\n    call_rows: 16\n    outputs:\n    - score\n"
    )
    again = apply_recipe(model, read_recipe(text))
    assert again._replace(front=None) == made
    with pytest.raises(ModelError, match="fold_batch_norm: expected it before litert_float32"):
        apply_recipe(model, [*read_recipe(text), Step("fold_batch_norm", {})])
    with pytest.raises(ModelError, match="dynamic_int8: expected it behind litert_float32"):
        apply_recipe(model, [Step("dynamic_int8", {})])


def test_a_recipe_has_the_passes_in_their_order():
    text = "passes: [fold_batch_norm: {version: 1}, dynamic_int8: {version: 1, keep_float: [a]}]"
    assert read_recipe(text) == (
        Step("fold_batch_norm", {}),
        Step("dynamic_int8", {"keep_float": ["a"]}),
    )


@pytest.mark.parametrize(
    "text",
    ["", "passes:", "passes: []", "[1]", "passes: [fold]", "{", "passes: [{a: 1, b: 2}]", "x: 1"],
)
def test_other_text_is_no_recipe(text):
    with pytest.raises(ValueError, match="Expected a recipe, with passes as a list of NAME"):
        read_recipe(text)


def test_all_problems_of_a_recipe_are_told_at_once():
    text = "passes: [fold_batch_norm: {version: 9, x: 1}, prune: {}, litert_float32: {rows: 1}]"
    with pytest.raises(ValueError, match="cannot be replayed") as told:
        read_recipe(text)
    for problem in (
        "fold_batch_norm: expected version 1, got 9",
        "fold_batch_norm: expected settings of none, got 'x'",
        "expected a pass of fold_batch_norm, litert_float32, dynamic_int8, got 'prune'",
        "litert_float32: expected version 1, got None",
        "litert_float32: expected settings of call_rows, outputs, got 'rows'",
    ):
        assert problem in str(told.value)
