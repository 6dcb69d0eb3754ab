"""Makes variants of a model, and compares each with its parent on the same rows."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from scoreline.models.artifact import digest_model, model_files
from scoreline.models.compare.gate import Limits, choose_judged
from scoreline.models.compare.held_out import Truth, hold_out, read_truth
from scoreline.models.compare.labels import UnusableRows
from scoreline.models.compare.metrics import Metric
from scoreline.models.compare.quality import Tolerance
from scoreline.models.errors import ModelError
from scoreline.models.mapping import select_column
from scoreline.models.model_spec import ModelSpec
from scoreline.models.variants import PARENT
from scoreline.pipelines.optimize.own_process import measure_start, run_apart, to_stream
from scoreline.pipelines.optimize.recipes import (
    Made,
    Recipe,
    choose_recipes,
    make_variant,
    name_of,
)
from scoreline.pipelines.optimize.result import Measured, Optimized, Refused, Variant, WorstRow
from scoreline.pipelines.optimize.rows import Rows, read_rows
from scoreline.pipelines.options.optimize import OptimizeSettings
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.plan.model import find_model
from scoreline.transforms.isolate import EveryRowFails
from scoreline.transforms.purity import check_rows
from scoreline.transforms.scoring import Serving
from scoreline.transforms.variant import (
    BATCH_ROWS,
    HeldOutScores,
    find_far_rows,
    judge_variant,
    score_held_out,
)

_WORST_ROWS = 5


def optimize(
    settings: OptimizeSettings, root: str, problems: Problems, say: Callable[[str], None]
) -> Optimized:
    """Make variants in a folder, judge them, and return what was found.

    Args:
      settings: the settings.
      root: an empty folder; the caller gives it its name when it is complete.
      problems: the problems so far; further ones are added.
      say: tells progress.

    Raises:
      BadOptions: options, model or rows are wrong.
      OSError: the folder cannot be written.
    """
    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    limits = _limits(settings, problems)
    recipes = choose_recipes(settings, problems)
    model = find_model(settings.model, problems, concurrent_calls=1)
    if model is None or limits is None:
        raise BadOptions(problems)
    try:
        servable = model.load(shared=False)
    except (ValueError, OSError) as e:
        problems.add(str(e))
        raise BadOptions(problems) from e
    with contextlib.closing(servable):
        rows = read_rows(settings, model, servable.signature, problems)
        truth = _read_truth(settings, rows, limits, problems)
        parent = Serving(servable, rows.score)
        _check_purity(settings, parent, rows, problems)
        say(f"scoring {rows.batch.num_rows:,} rows of {rows.partitions} partitions")
        scores = _score_parent(parent, rows, truth, limits, problems)
        whole = _measure(root, _copy(model, root), rows)
        found: list[Variant | Refused] = []
        for recipe in recipes:
            if not settings.recipes and _is_refused(recipe, found):
                continue
            say(f"making {name_of(recipe)}")
            made = make_variant(model, recipe, root)
            if made.refusal:
                found.append(Refused(name=made.name, reason=made.refusal))
                continue
            spec = dataclasses.replace(model, path=made.path, digest=digest_model(made.path))
            try:
                say(f"measuring {made.name}")
                found.append(_judge(made, spec, parent, scores, rows, truth, limits, root))
            except (ModelError, EveryRowFails) as e:
                found.append(Refused(name=made.name, reason=str(e)))
    variants = [each for each in found if isinstance(each, Variant)]
    return Optimized(
        started=started,
        seconds=time.monotonic() - began,
        source=settings.model.path,
        parent=whole,
        rows=rows.batch.num_rows,
        partitions=rows.partitions,
        rows_found=rows.rows_found,
        rows_without_label=rows.rows_without_label,
        tolerance=settings.tolerance,
        variants=tuple(sorted(variants, key=_ratio)),
        refused=tuple(each for each in found if isinstance(each, Refused)),
    )


def _ratio(variant: Variant) -> float:
    cost = variant.verdict.cost
    return float("inf") if cost is None else cost.ratio.value


def _limits(settings: OptimizeSettings, problems: Problems) -> Limits | None:
    try:
        return Limits(
            tolerance=Tolerance.parse(settings.tolerance),
            metric=Metric(settings.metric) if settings.metric else None,
            output=settings.score or None,
            threshold=settings.threshold,
        )
    except ValueError as e:
        problems.add(f"--tolerance: {e}")
        return None


def _read_truth(
    settings: OptimizeSettings, rows: Rows, limits: Limits, problems: Problems
) -> Truth:
    label = settings.label.column if settings.label else None
    try:
        return read_truth(rows.batch, label, settings.slices, limits.metric)
    except UnusableRows as e:
        problems.add(str(e))
        raise BadOptions(problems) from e


def _check_purity(
    settings: OptimizeSettings, parent: Serving, rows: Rows, problems: Problems
) -> None:
    """Add a problem if a row's score is not its own: then no two runs can be compared."""
    purity = check_rows(rows.batch, parent)
    if purity.problem and not settings.model.allow_impure:
        problems.add(purity.problem)
        raise BadOptions(problems)


def _score_parent(
    parent: Serving, rows: Rows, truth: Truth, limits: Limits, problems: Problems
) -> HeldOutScores:
    """Return the scores of the parent, which must be able to judge a variant."""
    try:
        scores = score_held_out(parent, rows.batch)
        outputs, positions = scores
        choose_judged(hold_out(truth, outputs, outputs, positions, positions), limits)
    except (ModelError, EveryRowFails) as e:
        problems.add(f"The model fails: {e}")
        raise BadOptions(problems) from e
    except UnusableRows as e:
        problems.add(str(e))
        raise BadOptions(problems) from e
    return scores


def _is_refused(recipe: Recipe, found: Sequence[Variant | Refused]) -> bool:
    """Return whether the first pass of a recipe makes no variant by itself."""
    return any(isinstance(each, Refused) and each.name == recipe[0].name for each in found)


def _judge(
    made: Made,
    model: ModelSpec,
    parent: Serving,
    scores: HeldOutScores,
    rows: Rows,
    truth: Truth,
    limits: Limits,
    root: str,
) -> Variant:
    """Score with a variant, measure it in turns with its parent, and judge it."""
    spec = dataclasses.replace(parent.spec, model=model)
    with contextlib.closing(model.load(shared=False)) as servable:
        variant = Serving(servable, spec)
        of_variant = score_held_out(variant, rows.batch)
        verdict = judge_variant(parent, scores, variant, of_variant, rows.batch, truth, limits)
    return Variant(
        name=made.name,
        model=_measure(root, model, rows),
        passes=made.passes,
        verdict=verdict,
        worst_rows=tuple(
            WorstRow(keys=_keys_of(rows, far.position), difference=far.difference)
            for far in find_far_rows(scores, of_variant, verdict.output, _WORST_ROWS)
        ),
    )


def _keys_of(rows: Rows, position: int) -> dict[str, object]:
    row = rows.batch.slice(position, 1)
    return {name: select_column(row, name)[0].as_py() for name in rows.keys}


def _copy(model: ModelSpec, root: str) -> ModelSpec:
    """Copy the parent, so that the folder is whole in itself."""
    source = Path(model.path)
    path = Path(root, PARENT if source.is_dir() else PARENT + source.suffix)
    if source.is_dir():
        shutil.copytree(source, path)
    else:
        shutil.copyfile(source, path)
    return dataclasses.replace(model, path=str(path))


def _measure(root: str, model: ModelSpec, rows: Rows) -> Measured:
    """Measure the files of a model, and a process of its own that loads it."""
    files = [Path(file).read_bytes() for file in model_files(model.path)]
    stream = to_stream(rows.batch.slice(0, BATCH_ROWS))
    spec = dataclasses.replace(rows.score, model=model)
    return Measured(
        path=os.path.relpath(model.path, root),
        digest=model.digest,
        size_bytes=sum(map(len, files)),
        compressed_bytes=sum(len(zlib.compress(content)) for content in files),
        start=run_apart(measure_start, spec, stream),
    )
