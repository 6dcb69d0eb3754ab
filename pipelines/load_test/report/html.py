"""The report of a load test as one HTML file: no network, no scripts, light and dark."""

from __future__ import annotations

import importlib.resources
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from scoreline.pipelines.load_test.report import numbers
from scoreline.pipelines.load_test.report.limits import describe_check, describe_limit
from scoreline.pipelines.load_test.report.page import head_of, lines_of
from scoreline.pipelines.load_test.report.plots import plots_of, slowest_worker
from scoreline.pipelines.load_test.result import LoadTest, Probe

_TEMPLATE, _STYLE = "report.html.j2", "style.css"


class StageRow(NamedTuple):
    """A stage of the slowest worker; shares are of its time in stages."""

    name: str
    useful: float
    waiting: float
    longest_ms: float


def render_html(test: LoadTest) -> str:
    """Return the report as HTML; every text is escaped, because paths may hold any character."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": numbers.number,
        "rate": numbers.rate,
        "percent": numbers.percent,
        "duration": numbers.duration,
        "percentile": lambda value: numbers.percentile(value, is_whole=True),
    }
    template = environment.from_string(_read(_TEMPLATE))
    lines = lines_of(test)
    verdict, *others = lines
    worker = slowest_worker(test.at_target)
    return template.render(
        style=read_style(),
        test=test,
        head=head_of(test),
        verdict=verdict.text.partition("   ")[2],
        lines=others,
        plots=plots_of(test),
        worker=worker,
        stages=_stages(test.at_target),
        limits=[(limit, describe_limit(limit, test.target)) for limit in test.limits],
        checks=[(check, describe_check(check)) for check in test.checks],
    )


def read_style() -> Markup:
    """Return the style sheet of pages with charts, for light and dark, screen and paper."""
    return Markup(_read(_STYLE))  # noqa: S704  ours


def _read(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text("utf-8")


def _stages(probe: Probe | None) -> list[StageRow]:
    """Return the stages of the slowest worker."""
    worker = slowest_worker(probe)
    if worker is None:
        return []
    busy_s = sum(stage.useful_s + stage.waiting_s for stage in worker.stages)
    return [
        StageRow(stage.name, stage.useful_s / busy_s, stage.waiting_s / busy_s, stage.longest_ms)
        for stage in worker.stages
        if busy_s > 0
    ]
