"""The label column of held-out rows, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.compare.metrics import Metric, count_classes
from scoreline.models.mapping import select_column
from scoreline.models.suggest import paths_of, suggest


class UnusableRows(ValueError):
    """Held-out rows that cannot judge a model; the message lists all problems."""


def read_label(rows: pa.RecordBatch, column: str, metric: Metric | None) -> np.ndarray:
    """Return the label of each row as a number.

    Args:
      rows: the held-out rows.
      column: the label's column; `parent.child` is a field of a struct.
      metric: the metric that it is for; None if `choose_metric` will choose it.

    Raises:
      UnusableRows: there is no such column, it has nulls, NaN or no numbers, or its values are not
        those that the metric takes.
    """
    if column not in paths_of(rows.schema):
        raise UnusableRows(
            f"expected label '{column}' among the columns {', '.join(rows.schema.names)}"
            f"{suggest(column, paths_of(rows.schema)) or '.'} Name the column that has what came "
            "true, or give no label: then the variant is compared with its parent's scores"
        )
    values = select_column(rows, column)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if not any(is_it(kind) for is_it in _NUMBERS):
        raise UnusableRows(
            f"expected label '{column}' as numbers or booleans, got {kind}. Add a column of numbers"
            ", such as 1 for yes and 0 for no"
        )
    missing = pc.sum(pc.is_null(values, nan_is_null=True)).as_py() or 0
    if missing:
        raise UnusableRows(
            f"expected label '{column}' in each row, got none in {missing:,} of "
            f"{rows.num_rows:,} rows. Leave out these rows, or the partitions whose labels are not "
            "known yet"
        )
    label = np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
    if problem := find_label_problem(label, metric or choose_metric(label)):
        raise UnusableRows(f"label '{column}': {problem}")
    return label


_NUMBERS = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
)


def choose_metric(label: np.ndarray | None) -> Metric:
    """Return the metric that a label is usually for: AUC for 0 and 1, else RMSE."""
    if label is None:
        return Metric.AGREEMENT
    return Metric.AUC if np.isin(label, (0, 1)).all() else Metric.RMSE


def find_label_problem(label: np.ndarray, metric: Metric, classes: int = 2) -> str:
    """Return why a metric cannot be computed from labels; "" if it can.

    Args:
      label: a finite number for each row.
      metric: the metric.
      classes: number of classes of the log loss.
    """
    if metric is Metric.LOG_LOSS and classes > 2:
        wrong = np.flatnonzero(~np.isin(label, np.arange(classes)))
        expected = f"classes from 0 to {classes - 1}, as many as a score has probabilities"
    elif metric in (Metric.AUC, Metric.LOG_LOSS):
        wrong = np.flatnonzero(~np.isin(label, (0, 1)))
        expected = "only 0 and 1"
    else:
        return ""
    if len(wrong):
        return (
            f"expected {expected} for the {metric.in_words}, got {label[wrong[0]]:g} in row "
            f"{wrong[0]:,}. Choose another metric, such as rmse, or another label"
        )
    if metric is Metric.AUC and min(count_classes(label)) == 0:
        return (
            f"expected rows of both classes for the {metric.in_words}, got only "
            f"{label[0]:g} in {len(label):,} rows. Give partitions that have both"
        )
    return ""


def refuse(problems: Sequence[str]) -> None:
    """Raise UnusableRows with all problems, if there are any."""
    if problems:
        head = f"{len(problems)} things are wrong:\n" if len(problems) > 1 else ""
        raise UnusableRows(head + "\n".join(problems))
