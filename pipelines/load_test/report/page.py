"""The page of a load test: one screen of text, a line for each finding."""

from __future__ import annotations

from typing import NamedTuple

from scoreline.pipelines.load_test.judge.elements import Outcome
from scoreline.pipelines.load_test.report import batch_lines, lines, load_lines
from scoreline.pipelines.load_test.report.numbers import duration
from scoreline.pipelines.load_test.result import LoadTest

_WIDTH = 10
# What an invalid measurement may show: its numbers are no measurement of the pipeline.
_OF_INVALID = ("VERDICT", "valid")


class Line(NamedTuple):
    """A finding and its label."""

    label: str
    text: str


def head_of(test: LoadTest) -> str:
    """Return what was tested, where and when."""
    subject = test.subject
    digest = subject.model_digest.replace(":", " ")[:11]
    source = "kafka" if subject.mode == "stream" else "input"
    workers = "1 worker" if subject.workers == 1 else f"{subject.workers} workers"
    parts = "1 partition" if subject.partitions == 1 else f"{subject.partitions:,} partitions"
    return " · ".join(
        [
            "scoreline load-test",
            f"{subject.model} ({digest}…)",
            subject.mode,
            subject.runner,
            f"{source} {parts}",
            workers,
            f"{test.started:%Y-%m-%d %H:%M}",
            duration((test.ended - test.started).total_seconds()),
        ]
    )


def lines_of(test: LoadTest) -> list[Line]:
    """Return the findings in the order of the page; a finding that was not looked for is absent."""
    if test.subject.mode == "batch":
        found = [
            ("VERDICT", lines.verdict(test)),
            ("volume", batch_lines.volumes(test)),
            ("cost/row", batch_lines.cost_of_row(test)),
            ("deadline", batch_lines.deadline(test)),
            ("growth", batch_lines.growth(test)),
        ]
    else:
        found = [
            ("VERDICT", lines.verdict(test)),
            ("capacity", lines.capacity(test)),
            ("estimates", lines.estimates(test)),
            ("latency", lines.latency(test)),
            ("start", load_lines.start(test)),
            ("spike", load_lines.spike(test)),
            ("step", load_lines.step(test)),
            ("soak", load_lines.soak(test)),
        ]
    found += [
        ("limit", lines.bottleneck(test)),
        ("", lines.advice(test)),
        ("model", lines.model_alone(test)),
        ("memory", lines.memory(test)),
        ("workers", lines.workers(test)),
        ("need", lines.need(test)),
        ("cost", lines.cost(test)),
        ("valid", lines.valid(test)),
        ("last run", lines.last_run(test)),
    ]
    if test.outcome is Outcome.INVALID:
        found = [(label, text) for label, text in found if label in _OF_INVALID]
    found += [("cut", sentence) for sentence in test.cut]
    return [Line(label, text) for label, text in found if text]


def render(test: LoadTest) -> str:
    """Return the page as text."""
    rows = [f"{line.label:{_WIDTH}}{line.text}" for line in lines_of(test)]
    return "\n".join([head_of(test), *rows])
