"""Describes a model, the columns that feed it, and its scores of the first rows."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape

from scoreline.models.errors import ModelError
from scoreline.models.inspection import ModelReport, inspect_model
from scoreline.models.runtimes.model import Runtime
from scoreline.models.signature import find_unsupported
from scoreline.pipelines.doing import doing
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_WRONG
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.inspect import InspectSettings, read_inspect
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.plan.model import find_model
from scoreline.pipelines.plan.preview import FirstScores, find_first_rows, score_first_rows
from scoreline.pipelines.report.console import make_table, say
from scoreline.pipelines.report.documents import first_fields, runtime_fields
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.preview import print_first_scores
from scoreline.pipelines.report.reporter import make_reporter


class Inspection(NamedTuple):
    """The result of an inspection.

    Attributes:
      model: facts from its files.
      unsupported: reasons why the chosen signature cannot be scored.
      first: the results of a dataset's first rows, or the reason why the model does not load.
      runtime: what calls the model; None if it was not loaded.
      allow_impure: the reason why an impure model is no problem; "" for none.
    """

    model: ModelReport
    unsupported: Sequence[str]
    first: FirstScores = FirstScores()
    allow_impure: str = ""
    runtime: Runtime | None = None

    @property
    def impurity(self) -> str:
        """Why the score of a row is not its own; "" if it is, or if that is allowed."""
        purity = self.first.purity
        return "" if purity is None or self.allow_impure else purity.problem

    @property
    def exit_code(self) -> int:
        """0 if all is well, 2 if model, columns or the signature do not fit, 1 if calls fail."""
        if self.unsupported or not self.first.fit or self.impurity:
            return EXIT_WRONG
        return EXIT_FAILED if self.first.failure else EXIT_OK


def inspect(settings: InspectSettings, problems: Problems) -> Inspection:
    """Inspect a model, and a dataset if one is given.

    Raises:
      BadOptions: the model or the dataset cannot be read, or an option names a missing thing.
    """
    model = find_model(settings.model, problems)
    if model is None:
        raise BadOptions(problems)
    try:
        report = inspect_model(model.path, settings.model.tags)
    except (FileNotFoundError, ModelError) as e:
        problems.add(str(e))
        raise BadOptions(problems) from e
    known = {signature.name: signature for signature in report.signatures}
    if model.signature not in known:
        names = ", ".join(known) or "none"
        problems.add(f"--signature: model {model.path} has no '{model.signature}'; it has {names}")
        raise BadOptions(problems)
    unusable = report.unusable.get(model.signature)
    signature, asked = known[model.signature], settings.model.fit.outputs
    stored = [spec for spec in signature.outputs if asked is None or spec.name in asked]
    unsupported = find_unsupported(signature._replace(outputs=tuple(stored)))
    inspection = Inspection(report, [unusable, *unsupported] if unusable else unsupported)
    if not settings.dataset.root:
        problems.check()
        return inspection
    try:
        servable = model.load(shared=False)
    except ModelError as e:
        problems.check()
        return inspection._replace(first=FirstScores(failure=str(e)))
    with contextlib.closing(servable):
        rows = find_first_rows(settings, model, servable.signature, problems)
        first = score_first_rows(rows, servable, checks_purity=True)
        return inspection._replace(
            first=first,
            allow_impure=settings.model.allow_impure,
            runtime=servable.runtime,
        )


def to_fields(inspection: Inspection) -> dict[str, Any]:
    """Return an inspection as an object for JSON."""
    model, first = inspection.model, inspection.first
    wrong = [mapped.problem for mapped in first.mapped if mapped.problem]
    return {
        "model": {
            **model._asdict(),
            "signatures": [
                {
                    "name": signature.name,
                    "inputs": {spec.name: str(spec) for spec in signature.inputs},
                    "outputs": {spec.name: str(spec) for spec in signature.outputs},
                }
                for signature in model.signatures
            ],
            "concerns": [concern._asdict() for concern in model.concerns],
            "unusable": dict(model.unusable),
        },
        "runtime": runtime_fields(inspection.runtime),
        "unsupported": list(inspection.unsupported),
        "first_rows": first_fields(first),
        "problems": [
            *inspection.unsupported,
            *wrong,
            *([inspection.impurity] if inspection.impurity else []),
            *([f"The model fails: {first.failure}"] if first.failure else []),
        ],
    }


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print an inspection as text."""
    model = inspection.model
    facts = make_table()
    facts.add_row("model", escape(model.path))
    facts.add_row("format", f"{model.format}, written by {escape(model.writer)}")
    if model.tags:
        facts.add_row("tags", escape(", ".join(model.tags)))
    facts.add_row("digest", model.digest)
    facts.add_row("size", f"{model.size_bytes / 1e6:,.2f} MB")
    if inspection.runtime is not None:
        facts.add_row("called by", escape(str(inspection.runtime)))
    for concern in model.concerns:
        facts.add_row("concern", f"{concern.op} ({concern.times} ×) {concern.meaning}")
    console.print(facts, highlight=False)
    for signature in model.signatures:
        table = make_table(f"signature {escape(signature.name)}", "", "dtype and shape")
        for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
            for spec in specs:
                table.add_row(kind, escape(spec.name), escape(str(spec)))
        console.print("")
        console.print(table, highlight=False)
    for line in inspection.unsupported:
        say(console, f"\n{line}")
    print_first_scores(inspection.first, console)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    set_up_logs()
    flags = sys.argv[1:] if argv is None else argv
    reporter = make_reporter("inspect", flags)
    problems = Problems()
    try:
        given, _ = parse_flags("inspect", flags, problems)
        settings = read_inspect(given, problems)
        problems.check_usage()
        with doing(f"inspecting {settings.model.path}"):
            inspection = inspect(settings, problems)
    except BadOptions as e:
        return reporter.end(e.exit_code, problems=e.problems)
    reporter.show(lambda console: print_inspection(inspection, console))
    return reporter.end(inspection.exit_code, to_fields(inspection))
