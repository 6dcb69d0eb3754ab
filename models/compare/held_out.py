"""Held-out rows with the outputs of both models, and which output is judged by which metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from scoreline.models.compare.disagreement import find_common_rows
from scoreline.models.compare.labels import UnusableRows, find_label_problem, read_label, refuse
from scoreline.models.compare.metrics import Metric
from scoreline.models.compare.parity import count_improbable, is_constant
from scoreline.models.mapping import select_column
from scoreline.models.rounding import read_scores
from scoreline.models.suggest import paths_of, suggest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """What held-out rows have beside the inputs.

    Attributes:
      label: a number for each row; None without labels.
      slices: by name, the columns whose values are judged one by one.
    """

    label: np.ndarray | None = None
    slices: Mapping[str, pa.Array] = dataclasses.field(default_factory=dict)

    def at(self, rows: np.ndarray) -> Truth:
        """Return some of the rows, by their positions."""
        positions = pa.array(rows)
        return Truth(
            label=None if self.label is None else self.label[rows],
            slices={name: values.take(positions) for name, values in self.slices.items()},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The rows that both models scored, in one order.

    Attributes:
      parent: the parent's outputs.
      variant: the variant's outputs.
      truth: label and slices of these rows.
      lost: number of further rows that only the parent scored.
    """

    parent: pa.RecordBatch
    variant: pa.RecordBatch
    truth: Truth
    lost: int = 0

    def at(self, rows: np.ndarray) -> HeldOut:
        """Return some of the rows, by their positions."""
        if len(rows) == self.parent.num_rows:
            return self
        positions = pa.array(rows)
        return dataclasses.replace(
            self,
            parent=self.parent.take(positions),
            variant=self.variant.take(positions),
            truth=self.truth.at(rows),
        )


def read_truth(
    rows: pa.RecordBatch, label: str | None, slices: Sequence[str], metric: Metric | None = None
) -> Truth:
    """Return label and slices of held-out rows, before anything is scored.

    Args:
      rows: the held-out rows.
      label: the column with what came true; None compares with the parent.
      slices: columns of text, whole numbers, booleans or dates.
      metric: the metric, if it is not chosen by the label.

    Raises:
      UnusableRows: a column is missing, or has values that cannot be used; lists all problems.
    """
    problems = []
    read: np.ndarray | None = None
    if not rows.num_rows:
        problems.append("expected held-out rows, got none. Give partitions that have rows")
    if label is None and metric not in (None, Metric.AGREEMENT):
        problems.append(f"expected a label for the {metric.in_words}, got none. Name its column")
    if label is not None and rows.num_rows:
        try:
            read = read_label(rows, label, metric)
        except UnusableRows as e:
            problems.append(str(e))
    columns = {}
    for name in slices:
        if name not in paths_of(rows.schema):
            problems.append(
                f"expected slices by '{name}' among the columns {', '.join(rows.schema.names)}"
                f"{suggest(name, paths_of(rows.schema)) or '.'} Name another column"
            )
            continue
        columns[name] = select_column(rows, name)
        kind = columns[name].type
        if pa.types.is_floating(kind) or pa.types.is_nested(kind):
            problems.append(
                f"expected slices by text, whole numbers, booleans or dates, got '{name}' as "
                f"{kind}. Add a column of ranges, such as 0-10 and 10-20"
            )
    refuse(problems)
    return Truth(label=read, slices=columns)


def hold_out(
    truth: Truth,
    parent: pa.RecordBatch,
    variant: pa.RecordBatch,
    by_parent: np.ndarray,
    by_variant: np.ndarray,
) -> HeldOut:
    """Return the rows that both models scored.

    Args:
      truth: label and slices of all rows.
      parent: the parent's outputs, of the rows that it scored.
      variant: the variant's outputs.
      by_parent: the positions of the parent's rows among all rows, ascending.
      by_variant: the positions of the variant's rows.
    """
    common = find_common_rows(by_parent, by_variant)
    return HeldOut(
        parent=parent.take(pa.array(common.in_old)),
        variant=variant.take(pa.array(common.in_new)),
        truth=truth.at(by_parent[common.in_old]),
        lost=common.lost,
    )


def choose_output(outputs: pa.Schema, output: str | None, metric: Metric) -> str:
    """Return the output that is judged: the given one, or the only one that the metric takes.

    Raises:
      UnusableRows: there is none, or more than one.
    """
    if output is not None:
        if output not in outputs.names:
            raise UnusableRows(
                f"expected output '{output}' of the parent, got {', '.join(outputs.names)}"
                f"{suggest(output, outputs.names) or '.'} Name one of them"
            )
        return output
    takes_all = metric in (Metric.LOG_LOSS, Metric.AGREEMENT)
    usable = [field.name for field in outputs if takes_all or _is_number(field.type)]
    if len(usable) != 1:
        raise UnusableRows(
            f"expected one output that the {metric.in_words} can judge, got "
            f"{', '.join(usable) or 'none'} of {', '.join(outputs.names)}. Name the output"
        )
    return usable[0]


def find_finite_rows(column: pa.Array) -> np.ndarray:
    """Return the positions of rows without a NaN or infinite number."""
    scores = read_scores(column)
    if not scores.is_float:
        return np.arange(len(column))
    return np.flatnonzero(np.isfinite(scores.values.reshape(len(column), -1)).all(axis=1))


def check_parent(held_out: HeldOut, output: str, metric: Metric, threshold: float | None) -> None:
    """Check that the parent's output can be judged by a metric.

    Raises:
      UnusableRows: it cannot; the message has why, and what to do.
    """
    kind = held_out.parent.schema.field(output).type
    if not held_out.parent.num_rows:
        raise UnusableRows(
            f"expected rows that both models score, with finite numbers in output '{output}', got "
            "none. Look at the dead letters"
        )
    if not _is_number(kind) and (metric in (Metric.AUC, Metric.RMSE) or threshold is not None):
        what = metric.in_words if threshold is None else f"threshold {threshold:g}"
        raise UnusableRows(
            f"expected one number per row for the {what}, got output '{output}' as {kind}. Name "
            "another output"
        )
    scores = read_scores(held_out.parent.column(output))
    if is_constant(scores):
        raise UnusableRows(
            f"expected scores that differ from row to row in output '{output}' of the parent, got "
            f"one value in {held_out.parent.num_rows:,} rows. Give other rows or another parent"
        )
    label = held_out.truth.label
    if metric is Metric.AGREEMENT or label is None:
        return
    classes = scores.values.shape[1] if scores.values.ndim == 2 else 2
    problem = find_label_problem(label, metric, classes)
    if not problem and metric is Metric.LOG_LOSS and count_improbable(scores):
        problem = (
            f"expected probabilities for the log loss, got {scores.values.min():g} to "
            f"{scores.values.max():g} in output '{output}' of the parent. Choose the metric auc, "
            "or an output of probabilities"
        )
    if problem:
        raise UnusableRows(problem)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
