"""The table of an optimization, for terminal and HTML: a line per model, and the reasons."""

from __future__ import annotations

from scoreline.models.compare.bootstrap import Interval
from scoreline.models.compare.cost import Cost
from scoreline.models.compare.gate import Verdict
from scoreline.models.compare.quality import Quality
from scoreline.models.variants import PARENT
from scoreline.pipelines.optimize.result import Measured, Optimized, Variant


def titles_of(found: Optimized) -> tuple[str, ...]:
    """Return the titles of the columns."""
    judged = next((v.verdict for v in found.variants if v.verdict.quality), None)
    metric = judged.metric.in_words if judged else "quality"
    cost = ("CPU µs/row", "÷ parent", "start", "memory")
    return ("model", "size", *cost, metric, "change", "worst slice", "verdict")


def rows_of(found: Optimized) -> list[tuple[str, ...]]:
    """Return the row of the parent, and of each variant."""
    rows = [(PARENT, *_of_model(found.parent, *_of_parent(found)), "", "", "")]
    for variant in found.variants:
        verdict = variant.verdict
        rows.append(
            (
                variant.name,
                *_of_model(variant.model, *_of_cost(verdict.cost), _value(verdict.quality)),
                _change(verdict.quality),
                _worst(verdict),
                _word(variant, found),
            )
        )
    return rows


def reasons_of(found: Optimized) -> list[tuple[str, str]]:
    """Return why variants are refused or not made: pairs of a name and a sentence."""
    refused = [(v.name, reason) for v in found.variants for reason in v.verdict.reasons]
    return [*refused, *((each.name, f"not made: {each.reason}") for each in found.refused)]


def worst_rows_of(found: Optimized) -> list[tuple[str, str]]:
    """Return the row of each variant that differs most from the parent's: pairs of name and row."""
    return [
        (
            variant.name,
            ", ".join(f"{name}={value}" for name, value in row.keys.items())
            + f" differs most, by {row.difference:.3g}",
        )
        for variant in found.variants
        for row in variant.worst_rows[:1]
    ]


def describe_rows(found: Optimized) -> str:
    """Return how many rows were compared, and where they are from."""
    of = "" if found.rows_found is None else f" of {found.rows_found:,}"
    left_out = f", {found.rows_without_label:,} without a label" if found.rows_without_label else ""
    return f"{found.rows:,}{of} in {found.partitions} partitions{left_out}"


def _of_parent(found: Optimized) -> tuple[str, str, str]:
    costs = [v.verdict.cost for v in found.variants if v.verdict.cost]
    qualities = [v.verdict.quality for v in found.variants if v.verdict.quality]
    return (
        f"{costs[0].parent_us_per_row:.3g}" if costs else "",
        "",
        f"{qualities[0].parent:.5g}" if qualities else "",
    )


def _of_model(model: Measured, cpu: str, ratio: str, quality: str) -> tuple[str, ...]:
    return (
        f"{model.size_bytes / 1e6:.2f} MB",
        cpu,
        ratio,
        f"{model.start.cpu_s:.2f} CPU s",
        f"{model.start.peak_bytes / 1e6:.0f} MB",
        quality,
    )


def _of_cost(cost: Cost | None) -> tuple[str, str]:
    return ("", "") if cost is None else (f"{cost.variant_us_per_row:.3g}", _interval(cost.ratio))


def _value(quality: Quality | None) -> str:
    return "" if quality is None else f"{quality.variant:.5g}"


def _change(quality: Quality | None) -> str:
    return "" if quality is None else _interval(quality.change, "+")


def _interval(found: Interval, sign: str = "") -> str:
    """Return an estimate with its interval."""
    value, low, high = (format(end, f"{sign}.3g") for end in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]".replace("-", "−")


def _worst(verdict: Verdict) -> str:
    worst = verdict.slices.worst if verdict.slices else None
    if worst is None:
        return ""
    change = f"{worst.change:+.3g}".replace("-", "−")
    return f"{worst.column}={worst.value} {change}"


def _word(variant: Variant, found: Optimized) -> str:
    if not variant.verdict.admitted:
        return "refused"
    return "admitted, cheapest" if variant.name == found.chosen else "admitted"
