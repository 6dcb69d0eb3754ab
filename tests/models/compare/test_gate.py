"""Variants whose faults are known: each is refused for its fault, and a good one is admitted."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pytest

from scoreline.models.compare.gate import Limits
from scoreline.models.compare.held_out import HeldOut, Truth
from scoreline.models.compare.labels import UnusableRows
from scoreline.models.compare.metrics import Metric
from scoreline.models.compare.quality import Tolerance
from tests.models.compare.plants import LIMITS, SEEDS, Rows, judged


def test_faster_and_equal_is_admitted():
    for seed in SEEDS:
        rows = Rows(seed)
        verdict = judged(rows.held_out(rows.nearly()), pairs=rows.pairs(0.8))
        assert verdict.admitted, verdict.reasons
        assert verdict.quality.change.low >= -0.005
        assert verdict.cost.ratio.high <= 0.95


@pytest.mark.parametrize("ratio", [1.0, 1.1])
def test_equal_and_not_faster_is_refused_for_its_cost_alone(ratio):
    limits = dataclasses.replace(LIMITS, tolerance=Tolerance(0.02))
    for seed in SEEDS:
        rows = Rows(seed)
        held_out = rows.held_out(rows.nearly(), label=False)
        (reason,) = judged(held_out, limits, rows.pairs(ratio)).reasons
        assert reason.startswith("CPU time: expected at most 0.95 times the parent's, got ")


def test_a_permuted_output_column_is_refused():
    for seed in SEEDS:
        rows = Rows(seed)
        verdict = judged(rows.held_out(rows.rng.permutation(rows.score)), pairs=rows.pairs(0.5))
        (reason,) = verdict.reasons
        assert reason.startswith("AUC: expected a loss of at most 0.005, got 0.")
        assert reason.endswith("on 3,000 rows. The variant is worse")


def test_a_permuted_output_that_has_no_label_is_refused():
    for seed in SEEDS:
        rows = Rows(seed)
        permuted = rows.rng.permutation(rows.aux)
        verdict = judged(rows.held_out(rows.score, permuted, label=False))
        (reason,) = verdict.reasons
        assert reason.startswith("output 'aux': expected a disagreement of at most 0.2, got 1.")


def test_permuted_classes_are_refused():
    limits = Limits(tolerance=Tolerance(0.005), metric=Metric.LOG_LOSS)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        odds = np.exp(rng.normal(size=(3000, 3)))
        scores = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        label = (rng.random((3000, 1)) > np.cumsum(scores, axis=1)).sum(axis=1).clip(0, 2)

        def output(values):
            flat = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3)
            return pa.RecordBatch.from_arrays([flat], ["classes"])

        held_out = HeldOut(
            parent=output(scores), variant=output(scores), truth=Truth(label=label.astype(float))
        )
        assert judged(held_out, limits).admitted
        permuted = dataclasses.replace(held_out, variant=output(scores[:, [1, 0, 2]]))
        verdict = judged(permuted, limits)
        assert "log loss: expected a loss of at most 0.005" in verdict.reasons[-1]


def test_one_broken_slice_is_refused_and_named_though_all_rows_together_pass():
    names = [f"country-{number}" for number in range(12)]
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        parent = 3 * rng.normal(size=12_000)
        where = np.repeat(np.arange(12), 1000)
        broken = int(rng.integers(12))
        variant = parent + np.where(where == broken, 0.8, 0.01) * rng.normal(size=12_000)
        country = pa.array([names[at] for at in where])
        held_out = HeldOut(
            parent=pa.RecordBatch.from_pydict({"delay": parent}),
            variant=pa.RecordBatch.from_pydict({"delay": variant}),
            truth=Truth(label=parent + rng.normal(size=12_000), slices={"country": country}),
        )
        verdict = judged(held_out, Limits(tolerance=Tolerance(0.05)))
        (reason,) = verdict.reasons
        assert f"got 1 of 12: country=country-{broken} changes by -0." in reason
        assert verdict.quality.metric == "rmse"
        assert verdict.quality.change.low > -0.05
        assert verdict.slices.worst.value == f"country-{broken}"


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_scale_that_is_off_by_2_percent_is_refused_though_the_auc_is_the_same(factor):
    for seed in SEEDS:
        rows = Rows(seed)
        off = np.float32(factor)
        # Probabilities, and a score around 0, whose mean does not change.
        verdict = judged(rows.held_out(rows.score * off, rows.aux * off))
        for output, reason in zip(("score", "aux"), verdict.reasons, strict=True):
            assert reason.startswith(f"output '{output}': expected a scale within 1.00% of the")
        assert verdict.quality.change.value == 0


def test_a_shift_is_refused():
    for seed in SEEDS:
        rows = Rows(seed)
        verdict = judged(rows.held_out(rows.score, rows.aux + np.float32(0.06), label=False))
        (reason,) = verdict.reasons
        assert reason.startswith("output 'aux': expected a mean within 0.05 standard deviations")


def test_a_variant_that_is_good_only_on_its_calibration_rows_is_refused_on_held_out_ones():
    for seed in SEEDS:
        rows = Rows(seed)
        calibration = rows.latent < 0
        # Static quantization cuts off what its calibration rows did not have.
        most = rows.score[calibration].max()
        variant = np.minimum(np.round(rows.score * 255 / most) / 255 * most, most)
        variant = variant.astype(np.float32)
        limits = dataclasses.replace(LIMITS, max_scale_error=None, max_shift=None)
        assert judged(rows.held_out(variant, at=calibration), limits).admitted
        verdict = judged(rows.held_out(variant), limits)
        assert verdict.reasons[0].endswith("The variant is worse")


def test_too_few_rows_are_refused_and_the_number_that_is_needed_is_enough():
    enough = 0
    for seed in SEEDS:
        rows = Rows(seed, 400)
        verdict = judged(rows.held_out(rows.nearly(0.02)))
        (reason,) = verdict.reasons
        assert reason.startswith("AUC: too few rows to prove a loss of at most 0.005: got 0.")
        needed = verdict.quality.rows_needed
        assert reason.endswith(f"Give about {needed:,} rows")
        assert 1000 <= needed < 20_000
        more = Rows(seed + 100, needed)
        enough += judged(more.held_out(more.nearly(0.02))).admitted
    assert enough >= 18  # 9 of 10


def test_rows_without_any_difference_prove_nothing_if_they_are_few():
    for seed in SEEDS:
        rows = Rows(seed, 900)
        verdict = judged(rows.held_out(rows.score))
        assert verdict.quality.change.low == 0
        assert "Give about 1,000 rows" in verdict.reasons[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused(value):
    for seed in SEEDS:
        rows = Rows(seed)
        variant = rows.nearly()
        variant[rows.rng.integers(3000)] = value
        verdict = judged(rows.held_out(variant))
        (reason,) = verdict.reasons
        assert "got NaN or infinite in only one of both in 1 of 3,000 rows" in reason
        assert verdict.quality is None
        # The other way round: a number hides a row that the parent refuses.
        other = Rows(seed)
        good = other.nearly()
        other.score[0] = value
        assert "in only one of both in 1 of" in judged(other.held_out(good)).reasons[0]


def test_rows_that_are_not_finite_in_both_are_left_out():
    rows = Rows(1)
    rows.score[:10] = np.nan
    verdict = judged(rows.held_out(rows.score.copy()))
    assert verdict.admitted
    assert (verdict.rows, verdict.left_out_rows, verdict.quality.rows) == (3000, 10, 2990)


def test_a_constant_output_is_refused():
    for seed in SEEDS:
        rows = Rows(seed)
        verdict = judged(rows.held_out(np.full(3000, 0.3, np.float32)))
        (reason,) = verdict.reasons
        assert reason == "output 'score': expected scores that differ, got one value in 3,000 rows"


def test_without_a_label_the_agreement_with_the_parent_decides():
    limits = dataclasses.replace(LIMITS, tolerance=Tolerance(0.02))
    for seed in SEEDS:
        rows = Rows(seed)
        verdict = judged(rows.held_out(rows.nearly(), label=False), limits)
        assert verdict.admitted, verdict.reasons
        assert verdict.quality.metric == "agreement"
        assert verdict.quality.variant == pytest.approx(1 - verdict.parity[0].disagreement)
        worse = judged(rows.held_out(rows.nearly(0.02), label=False), limits)
        assert worse.reasons[0].startswith("agreement: expected a loss of at most 0.02")


def test_with_a_threshold_and_no_label_the_share_of_equal_decisions_decides():
    limits = dataclasses.replace(LIMITS, threshold=0.5)
    for seed in SEEDS:
        rows = Rows(seed)
        verdict = judged(rows.held_out(rows.nearly(0.0001), label=False), limits)
        assert verdict.admitted, verdict.reasons
        variant = rows.nearly(0.02)
        flipped = int(np.sum((rows.score >= 0.5) != (variant >= 0.5)))
        verdict = judged(rows.held_out(variant, label=False), limits)
        assert verdict.parity[0].flipped_rows == flipped > 10
        assert verdict.quality.change.value == pytest.approx(-flipped / 3000)
        assert verdict.reasons[0].startswith("agreement: ")


def test_all_reasons_are_told_at_once():
    rows = Rows(1)
    verdict = judged(
        rows.held_out(rows.rng.permutation(rows.score), rows.aux * 3, lost=4),
        pairs=rows.pairs(1.5),
    )
    assert [reason.partition(",")[0] for reason in verdict.reasons[:1]] == [
        "expected scores of every row that the parent scores"
    ]
    told = "\n".join(verdict.reasons)
    for part in ("for 4 of 3,004 rows", "'aux': expected a scale", "AUC: expected", "CPU time:"):
        assert part in told
    assert len(verdict.reasons) >= 4


def test_an_output_that_is_missing_or_has_another_type_is_refused():
    rows = Rows(1)
    held_out = rows.held_out(rows.nearly())
    variant = held_out.variant
    without = dataclasses.replace(held_out, variant=variant.drop_columns(["aux"]))
    assert judged(without).reasons == ("output 'aux' is missing",)
    double = variant.set_column(0, "score", variant["score"].cast(pa.float64()))
    verdict = judged(dataclasses.replace(held_out, variant=double))
    assert verdict.reasons == ("output 'score' gives double, gave float",)
    assert verdict.quality is None


def test_each_limit_can_be_left_out():
    rows = Rows(1)
    far = rows.held_out(rows.score, rows.rng.permutation(rows.aux * 1.5 + 1).astype(np.float32))
    limits = dataclasses.replace(
        LIMITS, max_scale_error=None, max_shift=None, max_disagreement=None
    )
    assert len(judged(far).reasons) == 3
    assert judged(far, limits).admitted
    assert not judged(far, limits, rows.pairs(0.97)).admitted
    assert judged(far, dataclasses.replace(limits, max_cost_ratio=1.2), rows.pairs(0.97)).admitted


@pytest.mark.parametrize(
    ("limits", "label", "told"),
    [
        ({"output": "scores"}, True, "expected output 'scores' of the parent, got score, aux; did"),
        ({"output": None}, True, "expected one output that the AUC can judge, got score, aux of"),
        ({"metric": Metric.LOG_LOSS, "output": "aux"}, True, "expected probabilities for the log"),
    ],
)
def test_what_cannot_judge_any_variant_is_an_error(limits, label, told):
    rows = Rows(1)
    with pytest.raises(UnusableRows, match=re.escape(told)):
        judged(rows.held_out(rows.score, label=label), dataclasses.replace(LIMITS, **limits))


def test_a_parent_that_is_constant_or_has_no_finite_row_is_an_error():
    for value, told in ((0.5, "got one value in 3,000 rows"), (np.nan, "got none")):
        rows = Rows(1)
        variant = rows.nearly()
        rows.score[:] = value
        with pytest.raises(UnusableRows, match=told):
            judged(rows.held_out(variant))


def test_the_same_seed_has_the_same_verdict():
    rows = Rows(1)
    held_out = rows.held_out(rows.nearly(0.05))
    assert judged(held_out) == judged(held_out)
