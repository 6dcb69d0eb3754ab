from __future__ import annotations

import datetime
import decimal
import re

import numpy as np
import pyarrow as pa
import pytest

from scoreline.models.compare.held_out import hold_out, read_truth
from scoreline.models.compare.labels import UnusableRows
from scoreline.models.compare.metrics import Metric

ROWS = pa.RecordBatch.from_pydict(
    {
        "churned": [1, 0, 1, 0],
        "delay": [1.5, -2.0, 3.0, 0.0],
        "unknown": [1, None, 0, None],
        "nan": [1.0, 0.0, float("nan"), 1.0],
        "ones": [True] * 4,
        "text": pa.array(["yes", "no", "no", "yes"]).dictionary_encode(),
        "country": ["de", "fr", None, "de"],
        "day": [datetime.date(2024, 1, day) for day in (1, 1, 2, 2)],
        "order": [{"paid": 1}, {"paid": 0}, {"paid": 0}, {"paid": 1}],
        "exact": [decimal.Decimal(value) for value in ("0.5", "1.5", "2.5", "0.5")],
        "class": pa.array([0, 2, 1, 2], pa.int8()).dictionary_encode(),
    }
)


@pytest.mark.parametrize(
    ("label", "metric", "wanted"),
    [
        ("churned", None, [1, 0, 1, 0]),
        ("delay", None, [1.5, -2, 3, 0]),
        ("order.paid", Metric.LOG_LOSS, [1, 0, 0, 1]),
        ("exact", None, [0.5, 1.5, 2.5, 0.5]),
        ("class", Metric.RMSE, [0, 2, 1, 2]),
        ("ones", Metric.RMSE, [1, 1, 1, 1]),
    ],
)
def test_labels_are_read_as_numbers(label, metric, wanted):
    assert read_truth(ROWS, label, [], metric).label.tolist() == wanted


@pytest.mark.parametrize(
    ("label", "metric", "told"),
    [
        (
            "chruned",
            None,
            "expected label 'chruned' among the columns churned, delay, unknown, nan, ones, text, "
            "country, day, order, exact, class; did you mean 'churned'? Name the column that has "
            "what came true, or give no label: then the variant is compared with its parent's",
        ),
        (
            "unknown",
            None,
            "expected label 'unknown' in each row, got none in 2 of 4 rows. Leave out these rows, "
            "or the partitions whose labels are not known yet",
        ),
        ("nan", None, "expected label 'nan' in each row, got none in 1 of 4 rows. Leave out"),
        (
            "ones",
            None,
            "label 'ones': expected rows of both classes for the AUC, got only 1 in 4 rows. Give "
            "partitions that have both",
        ),
        ("text", None, "expected label 'text' as numbers or booleans, got string. Add a column"),
        ("order", None, "expected label 'order' as numbers or booleans, got struct<"),
        (
            "delay",
            Metric.AUC,
            "label 'delay': expected only 0 and 1 for the AUC, got 1.5 in row 0. Choose another "
            "metric, such as rmse, or another label",
        ),
        (None, Metric.AUC, "expected a label for the AUC, got none. Name its column"),
    ],
)
def test_a_label_that_cannot_be_used_is_an_error_that_tells_what_to_do(label, metric, told):
    with pytest.raises(UnusableRows, match=re.escape(told)):
        read_truth(ROWS, label, [], metric)


def test_all_problems_are_told_at_once():
    with pytest.raises(UnusableRows) as e:
        read_truth(ROWS, "unknown", ["county", "delay", "order"])
    told = str(e.value).split("\n")
    assert told[0] == "4 things are wrong:"
    assert "expected slices by 'county' among the columns" in told[2]
    assert told[2].endswith("did you mean 'country'? Name another column")
    assert "got 'delay' as double. Add a column of ranges, such as 0-10 and 10-20" in told[3]
    with pytest.raises(UnusableRows, match="expected held-out rows, got none"):
        read_truth(ROWS.slice(0, 0), "churned", ["country"])


def test_without_a_label_there_are_slices_only():
    truth = read_truth(ROWS, None, ["country", "day", "order.paid", "text"], Metric.AGREEMENT)
    assert truth.label is None
    assert truth.slices["order.paid"].to_pylist() == [1, 0, 0, 1]


def test_rows_that_only_one_model_scored_are_left_out():
    def scored(*values):
        return pa.RecordBatch.from_pydict({"score": values})

    truth = read_truth(ROWS, "delay", ["country"])
    parent, variant = scored(0.0, 0.2, 0.3), scored(9.1, 9.2)
    found = hold_out(truth, parent, variant, np.array([0, 2, 3]), np.array([1, 2]))
    assert found.parent["score"].to_pylist() == [0.2]
    assert found.variant["score"].to_pylist() == [9.2]
    assert found.truth.label.tolist() == [3.0]
    assert found.truth.slices["country"].to_pylist() == [None]
    assert found.lost == 2
