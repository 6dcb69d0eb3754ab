from __future__ import annotations

import pytest

from scoreline.models.compare.metrics import Metric
from scoreline.models.optimize import dynamic_int8, fold_batch_norm, litert
from scoreline.pipelines.options.commands import parse_flags
from scoreline.pipelines.options.optimize import (
    FOLD,
    INT8,
    LITERT,
    METRICS,
    PASSES,
    Label,
    read_optimize,
)
from scoreline.pipelines.options.problems import Problems

BASE = ["--model=m", "--input=i", "--keys=id", "--output=o"]


def read(*flags):
    problems = Problems()
    settings = read_optimize(parse_flags("optimize", [*BASE, *flags], problems).given, problems)
    return settings, list(problems)


def test_metrics_are_those_of_the_gate():
    assert tuple(metric.value for metric in Metric) == METRICS


def test_passes_are_those_of_the_models():
    assert PASSES == (fold_batch_norm.NAME, litert.NAME, dynamic_int8.NAME)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("late", Label(column="late")),
        ("delay>=16", Label(column="delay", at_least=16.0)),
        ("delay >= -1.5", Label(column="delay", at_least=-1.5)),
    ],
)
def test_a_label_is_a_column_or_a_comparison(text, label):
    settings, problems = read(f"--label={text}")
    assert (settings.label, problems) == (label, [])


def test_label_and_slices_are_read_beside_the_keys():
    settings, _ = read("--label=late>=1", "--slices=country,id,late")
    assert settings.keys.keys == ("id",)
    assert settings.keys.keep == ("late", "country")


def test_passes_are_recipes():
    settings, problems = read(
        "--passes=litert_float32,fold_batch_norm+litert_float32+dynamic_int8,litert_float32"
    )
    assert settings.recipes == ((LITERT,), (FOLD, LITERT, INT8))
    assert problems == []


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        (
            "--passes=prune_all",
            "--passes: expected fold_batch_norm, litert_float32, dynamic_int8, got 'prune_all'",
        ),
        ("--passes=dynamic_int8", "write litert_float32+dynamic_int8"),
        (
            "--passes=litert_float32+fold_batch_norm",
            "in the order fold_batch_norm, litert_float32, dynamic_int8, got",
        ),
        ("--passes=litert_float32+litert_float32", "expected each pass once"),
        ("--label=delay>=much", "--label: expected a number, got 'much'"),
        ("--threshold=nan", "--threshold: expected a number, got 'nan'"),
        ("--metric=f1", "--metric: expected one of auc, log_loss, rmse, agreement, got 'f1'"),
        ("--metric=auc", "--metric auc needs --label"),
        ("--max_rows=0", "--max_rows: expected a whole number of at least 1, got '0'"),
    ],
)
def test_wrong_values_are_problems(flag, problem):
    _, problems = read(flag)
    assert any(problem in found for found in problems), problems


def test_agreement_takes_no_label():
    _, problems = read("--metric=agreement", "--label=late")
    assert problems == ["--metric agreement needs no --label: leave it out, or take another metric"]
