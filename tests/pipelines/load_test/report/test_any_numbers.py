"""The reports show any numbers: a long test must not end with a traceback of its report."""

from __future__ import annotations

import json
import math

import jsonschema
import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge.elements import (
    Grows,
    Insufficient,
    Interval,
    Limit,
    Outcome,
    Slos,
)
from scoreline.pipelines.load_test.load_results import Soak, Spike, Start, Step
from scoreline.pipelines.load_test.report.document import to_document
from scoreline.pipelines.load_test.report.html import render_html
from scoreline.pipelines.load_test.report.page import render
from scoreline.pipelines.load_test.result import (
    Bottleneck,
    Capacity,
    Estimates,
    Scaling,
    Series,
    Volume,
)
from tests.json_output import read_schema
from tests.pipelines.load_test import samples

VALIDATOR = jsonschema.Draft202012Validator(read_schema("load_test"))
SOME = st.floats(0, 1e15)
ANY = st.one_of(st.floats(-1e15, 1e15), st.sampled_from([0.0, math.inf, -math.inf, math.nan]))
MAYBE = st.none() | SOME
INTERVAL = st.builds(Interval, ANY, ANY, ANY, st.just(0.95))
OUTCOME = st.sampled_from(Outcome)
LIMIT = st.builds(
    Limit, st.sampled_from(["latency_ms", "scored_share", "new"]), SOME, MAYBE, OUTCOME
)
PERCENTILE = st.one_of(INTERVAL, st.builds(Insufficient, st.integers(1, 10**9)), st.just(Grows()))


@st.composite
def series(draw):
    bins = draw(st.integers(0, 4))
    columns = st.lists(ANY, min_size=bins, max_size=bins).map(np.array)
    return Series(
        at_s=np.arange(float(bins)),
        offered_per_s=draw(columns),
        scored_per_s=draw(columns),
        backlog=draw(columns),
        latency_p50_ms=draw(columns),
        latency_p99_ms=draw(columns),
    )


@st.composite
def results(draw):
    make = draw(st.sampled_from([samples.make_stream, samples.make_batch]))
    judged = samples.make_judged(
        draw(OUTCOME),
        latency_ms=draw(st.dictionaries(st.sampled_from(["p50", "p99", "p99.9"]), PERCENTILE)),
        lag_slope_share=draw(INTERVAL),
        send_late_p99_ms=draw(ANY),
        scored_per_s=draw(SOME),
        memory_hours_left=draw(MAYBE),
    )
    probe = samples.make_probe(
        draw(st.sampled_from(["confirm", "spike", "ablation"])),
        draw(SOME),
        judged=judged,
        worker_times=draw(st.sampled_from([(), (samples.make_worker(predict_s=0.0),)])),
        peak_rss_mb=draw(MAYBE),
        series=draw(st.none() | series()),
    )
    return make(
        outcome=draw(OUTCOME),
        limits=tuple(draw(st.lists(LIMIT, max_size=2))),
        headroom=draw(MAYBE),
        target=draw(st.sampled_from([Slos(), Slos(rate_per_s=5.0), Slos(latency_ms=7.0)])),
        probes=(probe,),
        at_target=draw(st.sampled_from([None, probe])),
        capacity=draw(
            st.none()
            | st.builds(
                Capacity,
                workers=st.just(1),
                passes_per_s=MAYBE,
                fails_per_s=MAYBE,
                fails_because=st.none() | LIMIT,
                lag_at_fail=st.none() | INTERVAL,
                precision=SOME,
            )
        ),
        estimates=draw(st.builds(Estimates, drain_per_s=MAYBE, harness_per_s=MAYBE)),
        spike=draw(
            st.none()
            | st.builds(Spike, base_per_s=SOME, peak_per_s=SOME, for_s=SOME, recovered_s=MAYBE)
        ),
        start=draw(
            st.none()
            | st.builds(Start, median_s=SOME, longest_s=SOME, starts=st.integers(1, 10**9))
        ),
        step=draw(st.none() | st.builds(Step, base_per_s=SOME, to_per_s=SOME, settled_s=MAYBE)),
        soak=draw(
            st.none()
            | st.builds(
                Soak,
                rate_per_s=SOME,
                seconds=SOME,
                outcome=OUTCOME,
                limits=st.lists(LIMIT, max_size=2).map(tuple),
                lag_slope_share=INTERVAL,
                memory_mb=MAYBE,
                memory_growth_mb_per_h=st.none() | INTERVAL,
                memory_hours_left=MAYBE,
            )
        ),
        bottleneck=draw(
            st.none()
            | st.builds(
                Bottleneck,
                stage=st.sampled_from(["", "predict"]),
                kind=st.sampled_from(["none", "cpu", "skew"]),
                share=SOME,
                confirmed=st.none() | st.booleans(),
                gain_if_free=MAYBE,
            )
        ),
        scaling=draw(
            st.none()
            | st.builds(
                Scaling,
                tested=st.just(samples.make_stream().scaling.tested) | st.just(()),
                lambda_per_s=MAYBE,
                alpha=st.none() | INTERVAL,
                beta=st.none() | INTERVAL,
            )
        ),
        volume=draw(
            st.none()
            | st.builds(
                Volume,
                runs=st.just(samples.make_batch().volume.runs) | st.just(()),
                cpu_us_per_row=st.none() | INTERVAL,
                rows_before_deadline=st.none() | INTERVAL,
            )
        ),
        compared_with=None,
    )


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(test=results())
def test_any_result_has_a_page_a_report_and_a_document(test):
    assert test.outcome.value.upper() in render(test)
    content = render_html(test)
    assert "nan" not in content.partition("<section")[2].partition("</section>")[0]
    VALIDATOR.validate(json.loads(json.dumps(to_document(test, 0), allow_nan=False)))
