"""Recipes: the passes that made a variant, in YAML, to make the same of another version of a model.

passes:
- fold_batch_norm: {version: 1}
- litert_float32: {version: 1, call_rows: 2048}
- dynamic_int8: {version: 1}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scoreline.models.errors import ModelError
from scoreline.models.optimize import dynamic_int8, fold_batch_norm, litert
from scoreline.models.optimize.frozen import FrozenModel
from scoreline.models.optimize.variant import Variant
from scoreline.models.runtimes.variant_file import PassRecord

_PASSES, _VERSION = "passes", "version"
_VERSIONS = {
    fold_batch_norm.NAME: fold_batch_norm.VERSION,
    litert.NAME: litert.VERSION,
    dynamic_int8.NAME: dynamic_int8.VERSION,
}
_SETTINGS = {
    fold_batch_norm.NAME: frozenset[str](),
    litert.NAME: frozenset({"call_rows", "outputs"}),
    dynamic_int8.NAME: frozenset({"keep_float"}),
}


class Step(NamedTuple):
    """One pass of a recipe, with its arguments."""

    name: str
    settings: Mapping[str, Any]


def to_recipe(passes: Sequence[PassRecord]) -> str:
    """Return the recipe of the passes that made a variant, as YAML."""
    import yaml

    steps = [{p.name: {_VERSION: p.version, **p.settings}} for p in passes]
    text: str = yaml.safe_dump({_PASSES: steps}, sort_keys=False)
    return text


def read_recipe(text: str) -> tuple[Step, ...]:
    """Return the steps of a recipe.

    Raises:
      ValueError: it is no recipe, or has a pass, a version or a setting that this Scoreline lacks.
        The message has all problems.
    """
    import yaml

    try:
        held = yaml.safe_load(text)
        steps = [next(iter(step.items())) for step in held[_PASSES] if len(step) == 1]
        whole = len(steps) == len(held[_PASSES]) > 0 and len(held) == 1
        settings = [dict(given or {}) for _, given in steps]
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as e:
        raise ValueError(f"Expected a recipe, with passes as a list of NAME: SETTINGS; {e}") from e
    if not whole:
        raise ValueError("Expected a recipe, with passes as a list of NAME: SETTINGS, and no more")
    problems = []
    for (name, _), given in zip(steps, settings, strict=True):
        if name not in _VERSIONS:
            problems.append(f"expected a pass of {', '.join(_VERSIONS)}, got '{name}'")
            continue
        version = given.pop(_VERSION, None)
        if version != _VERSIONS[name]:
            problems.append(f"{name}: expected version {_VERSIONS[name]}, got {version}")
        known = ", ".join(sorted(_SETTINGS[name])) or "none"
        unknown = sorted(given.keys() - _SETTINGS[name])
        problems += [f"{name}: expected settings of {known}, got '{found}'" for found in unknown]
    if problems:
        raise ValueError(f"The recipe cannot be replayed: {'; '.join(problems)}")
    return tuple(Step(name, given) for (name, _), given in zip(steps, settings, strict=True))


def apply_recipe(model: FrozenModel, steps: Sequence[Step]) -> FrozenModel | Variant:
    """Return what the passes of a recipe make of a model, in their order.

    Raises:
      ModelError: a pass refuses the model, or stands in the wrong place.
    """
    made: FrozenModel | Variant = model
    for name, settings in steps:
        takes = Variant if name == dynamic_int8.NAME else FrozenModel
        if not isinstance(made, takes):
            raise ModelError(
                f"{name}: expected it {'behind' if takes is Variant else 'before'} {litert.NAME} "
                "in the recipe. Change the order of the passes"
            )
        if isinstance(made, Variant):
            made = dynamic_int8.quantize_dynamic(made, **settings)
        elif name == litert.NAME:
            made = litert.to_litert(made, **settings)
        else:
            made = fold_batch_norm.fold_batch_norm(made)
    return made
