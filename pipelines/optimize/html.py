"""The report of an optimization as one HTML file: no network, no scripts, light and dark."""

from __future__ import annotations

import importlib.resources

import jinja2
import numpy as np
from markupsafe import Markup

from scoreline.models.variants import PARENT
from scoreline.pipelines.load_test.report.html import read_style
from scoreline.pipelines.load_test.report.svg import Curve, draw_chart
from scoreline.pipelines.optimize.result import Optimized
from scoreline.pipelines.optimize.table import reasons_of, rows_of, titles_of, worst_rows_of

_TEMPLATE = "report.html.j2"


def render_html(found: Optimized) -> str:
    """Return the report as HTML; every text is escaped, because paths may hold any character."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    files = importlib.resources.files("scoreline.pipelines.optimize")
    template = environment.from_string((files / _TEMPLATE).read_text("utf-8"))
    return template.render(
        found=found,
        parent=PARENT,
        plot=draw_pareto(found),
        titles=titles_of(found),
        rows=rows_of(found),
        reasons=reasons_of(found),
        worst_rows=worst_rows_of(found),
        style=read_style(),
    )


def draw_pareto(found: Optimized) -> Markup:
    """Return a chart of cost and loss: the best variants are at the lower left."""
    curves = [_point(PARENT, 1.0, 0.0, "b")]
    for variant in found.variants:
        cost, quality = variant.verdict.cost, variant.verdict.quality
        if cost is not None and quality is not None:
            style = "a" if variant.verdict.admitted else "c"
            curves.append(_point(variant.name, cost.ratio.value, -quality.change.value, style))
    tolerances = [v.verdict.quality.tolerance for v in found.variants if v.verdict.quality]
    if tolerances:
        width = max(1.0, *(float(curve.x[0]) for curve in curves))
        limit = np.full(2, tolerances[0])
        curves.append(Curve(name="tolerance", x=np.array([0.0, width]), y=limit, style="limit"))
    return draw_chart("Loss of the metric", "CPU time per row ÷ parent", curves)


def _point(name: str, x: float, y: float, style: str) -> Curve:
    at = (np.array([x]), np.array([y]))
    return Curve(name=name, x=at[0], y=at[1], style=style, has_line=False, has_dots=True)
