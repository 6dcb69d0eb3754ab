"""Recipes: which passes make a variant. Each variant is made in a process of its own.

The passes import TensorFlow's Python, and its converter can end a process. Neither must happen
where models are measured.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from scoreline.models.errors import ModelError
from scoreline.models.model_spec import ModelSpec
from scoreline.models.optimize.recipe import Step, apply_recipe, read_recipe, to_recipe
from scoreline.models.runtimes.variant_file import PassRecord
from scoreline.pipelines.optimize.own_process import run_apart
from scoreline.pipelines.options.optimize import FOLD, INT8, LITERT, OptimizeSettings
from scoreline.pipelines.options.problems import Problems

Recipe: TypeAlias = tuple[Step, ...]
# What is tried if no recipe is named.
ALL = ((FOLD,), (LITERT,), (LITERT, INT8), (FOLD, LITERT), (FOLD, LITERT, INT8))
VARIANTS, RECIPES = "variants", "recipes"


class Pass(NamedTuple):
    """A pass that made a variant: see `models/runtimes/variant_file.py`."""

    name: str
    version: int
    settings: dict[str, Any]
    notes: tuple[str, ...]


class Made(NamedTuple):
    """A variant, or why there is none.

    Attributes:
      name: the passes, joined by `+`.
      path: where it is; "" if there is none.
      passes: what made it, in order.
      refusal: why there is none; "" if there is one.
    """

    name: str
    path: str = ""
    passes: tuple[Pass, ...] = ()
    refusal: str = ""


def choose_recipes(settings: OptimizeSettings, problems: Problems) -> tuple[Recipe, ...]:
    """Return the recipes to try, and add all problems."""
    if settings.recipe is None:
        chosen = settings.recipes or ALL
        return tuple(tuple(Step(name, {}) for name in recipe) for recipe in chosen)
    try:
        return (read_recipe(Path(settings.recipe).read_text("utf-8")),)
    except (OSError, ValueError) as e:
        problems.add(f"--recipe: {e}")
        return ()


def name_of(recipe: Recipe) -> str:
    """Return the passes of a recipe, joined by `+`."""
    return "+".join(step.name for step in recipe)


def make_variant(model: ModelSpec, recipe: Recipe, root: str) -> Made:
    """Make a variant below a folder, in a process of its own, and record its recipe."""
    name = name_of(recipe)
    path = os.path.join(root, VARIANTS, name)
    try:
        made = run_apart(_make, model, tuple(recipe), Made(name, path))
    except ModelError as e:
        return Made(name, refusal=str(e))
    if not made.refusal:
        file = Path(root, RECIPES, f"{name}.yaml")
        file.parent.mkdir(exist_ok=True)
        file.write_text(to_recipe([PassRecord(*each) for each in made.passes]), "utf-8")
    return made


def _make(model: ModelSpec, recipe: Recipe, made: Made) -> Made:
    """Make a variant.

    What is returned has only builtin types: the other process lacks those of TensorFlow.
    """
    from scoreline.models.optimize.build import save_frozen
    from scoreline.models.optimize.frozen import freeze
    from scoreline.models.optimize.variant import Variant, write_variant

    if model.outputs:
        only = {"outputs": list(model.outputs)}
        recipe = tuple(
            Step(name, {**only, **settings} if name == LITERT else settings)
            for name, settings in recipe
        )
    try:
        frozen = freeze(
            model.path, model.signature, op_libraries=model.op_libraries, tags=model.tags
        )
        variant = apply_recipe(frozen, recipe)
        if isinstance(variant, Variant):
            write_variant(variant, made.path)
        else:
            save_frozen(variant, made.path)
    except (ModelError, FileNotFoundError) as e:
        return Made(made.name, refusal=str(e))
    passes = (
        Pass(each.name, each.version, dict(each.settings), tuple(each.notes))
        for each in variant.passes
    )
    return made._replace(passes=tuple(passes))
