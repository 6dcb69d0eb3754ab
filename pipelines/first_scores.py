"""How a dataset's columns feed a model, and what the model says of its first rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from rich.console import Console

from models.model_error import first_lines
from models.model_process import ModelProcess
from models.servable import Servable
from pipelines.checks import choose_inputs
from pipelines.first_rows import open_first_partition
from pipelines.mapping import Mapped, map_inputs, mapping_table
from pipelines.settings import BadOptions, BatchScoringSettings
from pipelines.summary import say
from transforms.features import build_features

_ROWS_CALLED = 5


class FirstScores(NamedTuple):
    """What came of calling a model on the first rows of the first selected partition.

    Attributes:
      partition: the partition that has them; "" when none was looked at.
      mapped: how each input is fed from it.
      rows: the rows' outputs, or why they are dead letters; none when columns do not fit.
      failure: why the model could not be called; "" when it could.
    """

    partition: str = ""
    mapped: Sequence[Mapped] = ()
    rows: Sequence[dict[str, Any]] = ()
    failure: str = ""

    @property
    def fit(self) -> bool:
        """Whether every input has a column that fits."""
        return not any(row.problem for row in self.mapped)


def score_first_rows(
    servable: Servable | ModelProcess, settings: BatchScoringSettings
) -> FirstScores:
    """Feed a model the first rows as a job would, and return what it says of them.

    Raises:
      BadOptions: there are no rows, they cannot be read, or options name what is not there.
    """
    first = open_first_partition(settings)
    problems: list[str] = []
    inputs = choose_inputs(settings, servable.signature, problems, first.format)
    if problems:
        raise BadOptions(problems)
    first = first.with_constants(settings, inputs)
    mapped = map_inputs(servable.signature, inputs, first.schema)
    found = FirstScores(first.partition.path, mapped)
    if not found.fit:
        return found
    batch = first.read(settings, inputs, _ROWS_CALLED)
    features = build_features(batch, inputs)
    try:
        outputs = servable.predict(
            features.columns,
            features.batch.num_rows,
            list(settings.outputs or ()) or None,
            sources=inputs,
        )
    except Exception as e:  # noqa: BLE001  whatever the model raises is what is to be shown
        return found._replace(failure=f"{type(e).__name__}: {first_lines(e)}")
    scores = pa.RecordBatch.from_pydict(outputs).to_pylist()
    dead = [] if features.dead is None else zip(*features.dead[:2], strict=True)
    reasons = [{"row": row, "dead": reason} for row, reason in dead]
    positions = features.positions or range(batch.num_rows)
    rows = [{"row": row, **found} for row, found in zip(positions, scores, strict=False)]
    return found._replace(rows=sorted([*rows, *reasons], key=lambda r: r["row"]))


def print_first_scores(found: FirstScores, console: Console) -> None:
    """Show the mapping, what is wrong with it, and the scores."""
    if found.mapped:
        console.print(f"\nfed from {found.partition}", highlight=False)
        console.print(mapping_table(found.mapped), highlight=False)
    for mapped in found.mapped:
        if mapped.problem:
            say(console, f"\n{mapped.problem}")
    if found.failure:
        console.print(f"\nThe model fails: {found.failure}", highlight=False, markup=False)
    if found.rows:
        console.print("\nscores of the first rows", highlight=False)
        for row in found.rows:
            shown = ", ".join(f"{name} {_short(value)}" for name, value in row.items())
            console.print(f"  {shown}", highlight=False, markup=False)


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:60] + " …"
