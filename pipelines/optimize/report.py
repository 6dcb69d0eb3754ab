"""Reports of an optimization: the table on the terminal, optimize.json and report.html."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from scoreline import __version__
from scoreline.models.variants import REPORT
from scoreline.pipelines.optimize.html import render_html
from scoreline.pipelines.optimize.result import Measured, Optimized, Variant
from scoreline.pipelines.optimize.table import (
    describe_rows,
    reasons_of,
    rows_of,
    titles_of,
    worst_rows_of,
)
from scoreline.pipelines.report.console import make_table, say
from scoreline.pipelines.report.plain import plain
from scoreline.pipelines.report.reporter import Reporter

HTML = "report.html"
KIND = "optimize"


def report_on(found: Optimized, output: str, folder: str, reporter: Reporter) -> dict[str, Any]:
    """Write the report into the folder, print the table, and return the object for JSON.

    Args:
      found: the result.
      output: the name that the folder will have.
      folder: where it is now.
      reporter: prints the table.
    """
    document = to_document(found)
    head = {"schema": f"scoreline.{KIND}/1", "version": __version__, "exit_code": 0, "problems": []}
    Path(folder, REPORT).write_text(
        json.dumps({**head, **document}, indent=1, allow_nan=False) + "\n", "utf-8"
    )
    Path(folder, HTML).write_text(render_html(found), "utf-8")
    reporter.show(lambda console: print_variants(found, output, console))
    return document


def to_document(found: Optimized) -> dict[str, Any]:
    """Return the result as an object for JSON: docs/schemas/optimize-1.json."""
    return {
        "started": found.started.isoformat(timespec="seconds"),
        "seconds": found.seconds,
        "source": found.source,
        "chosen": found.chosen,
        "rows": found.rows,
        "rows_found": found.rows_found,
        "rows_without_label": found.rows_without_label,
        "partitions": found.partitions,
        "tolerance": found.tolerance,
        "parent": _measured(found.parent),
        "variants": [_variant(variant) for variant in found.variants],
        "refused": [dataclasses.asdict(refused) for refused in found.refused],
    }


def _measured(model: Measured) -> dict[str, Any]:
    return {
        "path": model.path,
        "digest": model.digest,
        "size_bytes": model.size_bytes,
        "compressed_bytes": model.compressed_bytes,
        "start_cpu_s": model.start.cpu_s,
        "peak_bytes": model.start.peak_bytes,
    }


def _variant(variant: Variant) -> dict[str, Any]:
    judged = plain(dataclasses.asdict(variant.verdict))
    del judged["parent_digest"], judged["variant_digest"]  # told already
    return {
        "name": variant.name,
        **_measured(variant.model),
        "cpu_flags": [],
        "passes": [each._asdict() for each in variant.passes],
        "is_admitted": judged.pop("admitted"),
        **judged,
        "worst_rows": [
            {
                "keys": {name: _plain_key(value) for name, value in row.keys.items()},
                "difference": row.difference,
            }
            for row in variant.worst_rows
        ],
    }


def _plain_key(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def print_variants(found: Optimized, output: str, console: Console) -> None:
    """Print a line per model, and what was refused with the reasons."""
    table = make_table(*titles_of(found))
    for row in rows_of(found):
        table.add_row(*map(escape, row))
    console.print(table, highlight=False)
    for name, reason in reasons_of(found):
        say(console, f"{name}: {reason}")
    for name, worst in worst_rows_of(found):
        if name == found.chosen:
            say(console, f"{name}: {worst}")
    say(console, f"rows     {describe_rows(found)}")
    say(console, f"report   {Path(output, HTML)}")
    say(console, f"score    scoreline batch --model auto:{output} …")
