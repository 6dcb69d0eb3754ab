"""Show what a model is, how a dataset's columns feed it, and its scores of the first rows.

    scoreline inspect --model PATH [--input PATH --columns … --fill …]

Without --input nothing of the model is run. Exit codes: 0 the model can be read and, with --input,
scores rows of it; 1 it fails on them; 2 options, model or dataset are wrong, or columns do not fit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import NamedTuple

from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console
from rich.markup import escape

from scoreline.models.errors import ModelError
from scoreline.models.inspection import ModelReport, inspect_model
from scoreline.models.servable import load_servable
from scoreline.models.signature import find_unsupported
from scoreline.pipelines.exit_codes import EXIT_FAILED, EXIT_OK, EXIT_WRONG
from scoreline.pipelines.options.batch import BatchScoringSettings, make_parser
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.plan.preview import FirstScores, score_first_rows
from scoreline.pipelines.report.console import make_console, make_table, say
from scoreline.pipelines.report.logs import set_up_logs
from scoreline.pipelines.report.preview import print_first_scores

_USAGE = "scoreline inspect --model PATH [--input PATH] [options]"


class Inspection(NamedTuple):
    """All that a command found out.

    Attributes:
      model: what its files tell.
      unsupported: what keeps the chosen signature from being scored, if anything.
      first: what came of a dataset's first rows, or why the model does not load.
    """

    model: ModelReport
    unsupported: Sequence[str]
    first: FirstScores = FirstScores()

    @property
    def exit_code(self) -> int:
        """0 when all is well, 2 when columns or the signature do not fit, 1 when calls fail."""
        if self.unsupported or not self.first.fit:
            return EXIT_WRONG
        return EXIT_FAILED if self.first.failure else EXIT_OK


def inspect(settings: BatchScoringSettings) -> Inspection:
    """Find out all there is to know about a model, and about a dataset when there is one.

    Raises:
      BadOptions: the model or the dataset cannot be read, or options name what is not there.
    """
    try:
        report = inspect_model(settings.model)
    except (FileNotFoundError, ModelError) as e:
        raise BadOptions([str(e)]) from e
    known = {signature.name: signature for signature in report.signatures}
    if settings.signature not in known:
        names = ", ".join(known) or "none"
        raise BadOptions(
            [f"--signature: model {settings.model} has no '{settings.signature}'; it has {names}"]
        )
    inspection = Inspection(report, find_unsupported(known[settings.signature]))
    if not settings.input:
        return inspection
    try:
        servable = load_servable(
            settings.model,
            settings.signature,
            op_libraries=settings.op_libraries,
            outputs=None if settings.outputs is None else tuple(settings.outputs),
            ragged=settings.ragged,
        )
    except ModelError as e:
        return inspection._replace(first=FirstScores(failure=str(e)))
    return inspection._replace(first=score_first_rows(servable, settings))


def to_json(inspection: Inspection) -> str:
    """Return an inspection as JSON, for machines."""
    model = inspection.model
    return json.dumps(
        {
            "model": {
                **model._asdict(),
                "signatures": [
                    {
                        "name": signature.name,
                        "inputs": {s.name: str(s) for s in signature.inputs},
                        "outputs": {s.name: str(s) for s in signature.outputs},
                    }
                    for signature in model.signatures
                ],
                "concerns": [concern._asdict() for concern in model.concerns],
            },
            "unsupported": inspection.unsupported,
            "partition": inspection.first.partition,
            "inputs": [row._asdict() for row in inspection.first.mapped],
            "scores": inspection.first.rows,
            "failure": inspection.first.failure,
        },
        default=lambda value: value.hex() if isinstance(value, bytes) else str(value),
        indent=1,
    )


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Show an inspection to a person."""
    model = inspection.model
    facts = make_table()
    facts.add_row("model", escape(model.path))
    facts.add_row("format", f"{model.format}, written by {escape(model.writer)}")
    facts.add_row("digest", model.digest)
    facts.add_row("size", f"{model.size_bytes / 1e6:,.2f} MB")
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
    parser = make_parser(_USAGE, __doc__)
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    given = parser.parse_args(sys.argv[1:] if argv is None else argv)
    flags = [f for f in (sys.argv[1:] if argv is None else argv) if f != "--json"]
    console, errors = make_console(), make_console(stderr=True)
    try:
        settings = BatchScoringSettings.from_options(PipelineOptions(flags), needs=["--model"])
        inspection = inspect(settings)
    except BadOptions as e:
        for problem in e.problems:
            say(errors, problem)
        return EXIT_WRONG
    if given.json:
        say(console, to_json(inspection))
    else:
        print_inspection(inspection, console)
    return inspection.exit_code


if __name__ == "__main__":
    sys.exit(main())
