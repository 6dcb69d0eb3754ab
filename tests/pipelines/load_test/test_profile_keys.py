"""Each wrong key of a profile is refused in plain words, with its line."""

from __future__ import annotations

import pytest

from tests.pipelines.load_test.profiles import BATCH, KEYS, STREAM

NO_WORKERS = (
    "workers: expected whole numbers of workers from 1 to 10,000, ascending, as [1, 2, 4], got "
)
SCALE = "expected a list of arguments with {workers}, as [kubectl, scale, …, --replicas={workers}]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sloz: {}", "sloz: unknown key; did you mean slos?"),
        ("zzz: 1", f"zzz: unknown key; expected one of {KEYS}"),
        ("latency_ms: 5", "latency_ms: unknown key; did you mean slos.latency_ms?"),
        ("currency: EUR", "currency: unknown key; did you mean prices.currency?"),
        ("seed: 1\nseed: 2", "seed: expected each key once, got it in line 3 too"),
        ("[a]: 1", "top level: expected keys that are names"),
        ("<<: {seed: 1}", f"<<: unknown key; expected one of {KEYS}"),
        ("slos: fast", "slos: expected keys and values, got 'fast'"),
        ("slos: {rate_per_s: 8k}", "slos.rate_per_s: expected a rate per second above 0, got '8k'"),
        (
            "slos: {rate_per_s: }",
            "slos.rate_per_s: expected a rate per second above 0, got nothing",
        ),
        (
            "slos: {rate_per_s: [1]}",
            "slos.rate_per_s: expected a rate per second above 0, got a list",
        ),
        ("slos: {rate_per_s: .inf}", "slos.rate_per_s: expected a rate per second above 0, got "),
        (
            "slos: {latency_ms: 0}",
            "slos.latency_ms: expected a number of milliseconds above 0, got",
        ),
        (
            "slos: {latency_ms: 5, latency_percentile: 100}",
            "slos.latency_percentile: expected a percentile from 50 to 99.99, got '100'",
        ),
        (
            "slos: {latency_percentile: 99}",
            "slos.latency_percentile: needs latency_ms; set both, or leave it out",
        ),
        (
            "slos: {latency_ms: 6000, freshness_s: 5}",
            "slos.freshness_s: expected at least latency_ms, 6 s, got 5 s: no row may wait longer",
        ),
        ("slos: {error_share: 1}", "slos.error_share: expected a share from 0 to below 1, got '1'"),
        ("slos: {rows: 5}", "slos.rows: only for a batch; leave it out"),
        ("slos: {cost_per_million: 1}", "slos.cost_per_million: needs prices, got none"),
        ("workers: 4", NO_WORKERS + "'4'"),
        ("workers: []", NO_WORKERS + "an empty list"),
        ("workers: [4, 2]", NO_WORKERS + "[4, 2]"),
        ("workers: [1, 0]", "workers, item 2: expected a whole number from 1 to 10,000, got '0'"),
        ("workers: [1.5]", "workers, item 1: expected a whole number from 1 to 10,000, got '1.5'"),
        ("partitions: -3", "partitions: expected a whole number from 1 to 10,000, got '-3'"),
        ("shape: poison", "shape: expected one of poisson, even, trace, got"),
        ("shape: trace", "shape: trace needs `trace` with file and column"),
        ("trace: {file: ., column: t}", "trace: needs `shape: trace`, got poisson"),
        ("trace: {file: .}\nshape: trace", "trace.column: expected a value, got none"),
        (
            "trace: {file: no, column: t}\nshape: trace",
            "trace.file: expected a Parquet file or folder, got no",
        ),
        ("seed: -1", "seed: expected a whole number from 0 to 4,294,967,295, got '-1'"),
        ("start_rate_per_s: 0", "start_rate_per_s: expected a rate per second above 0, got '0'"),
        ("soak_s: 0", "soak_s: expected a number of seconds above 0, got '0'"),
        (
            "soak_s: 100",
            "soak_s: expected at least 240, two windows of the precision normal, got 100",
        ),
        (
            "soak_s: 86_400\nslos: {rate_per_s: 8000}",
            "soak_s: expected at most 8,389 s at 8000/s, because a test follows at most 67,108,864",
        ),
        (
            "soak_s: 3600\nbudget_s: 3600",
            "soak_s: expected less than budget_s, 3600, got 3600",
        ),
        ("scale_command: kubectl", f"scale_command: {SCALE}; no shell runs it, got 'kubectl'"),
        ("scale_command: [kubectl]", f"scale_command: {SCALE}, got none with {{workers}}"),
        ("volumes: [1]", "volumes: only for a batch: a stream is tested at rates"),
        ("prices: {currency: EUR}", "prices: worker_hour: expected a value, got none"),
        (
            "prices: no.yaml",
            "prices: expected currency and worker_hour, or a YAML file with them, got no.yaml, "
            "which is no file",
        ),
        (
            "prices: {currency: EUR, worker_hour: -1}",
            "prices.worker_hour: expected a price of at least 0, got '-1'",
        ),
        ("need: {rate_per_s: 5, rows: 5}", "need.rows: unknown key; expected one of rate_per_s"),
        ("need: {}", "need.rate_per_s: expected a value, got none"),
        ("precision: quik", "precision: expected one of quick, normal, fine, got 'quik'; did you"),
        (
            "budget_s: 30",
            "budget_s: expected at least 240, two windows of the precision normal, got 30",
        ),
        ("budget_s: soon", "budget_s: expected a number of seconds above 0, got 'soon'"),
        ("output: s3://b/c", "output: expected a folder of this machine, got s3://b/c"),
        ("output: profile.yaml", "output: expected a folder of this machine, got profile.yaml"),
        ("output: [a]", "output: expected a folder, got a list"),
    ],
)
def test_a_wrong_key_of_a_stream(problems_of, text, expected):
    (problem,) = problems_of(STREAM + text)
    assert problem.partition(": ")[2].startswith(expected) or problem.startswith(expected)
    assert problem.startswith(("line 3: ", "line 4: ", "no.yaml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shape: even", "line 2: shape: only for a stream: a batch has no arrivals"),
        ("soak_s: 600", "line 2: soak_s: only for a stream: a batch ends by itself"),
        ("records: topic:t", "line 2: records: only for a stream: a batch scores its --input"),
        ("slos: {rate_per_s: 5}", "line 2: slos.rate_per_s: only for a stream; leave it out"),
        ("slos: {rows: 5}", "line 2: slos.rows: needs deadline_s; set both, or leave it out"),
        ("slos: {deadline_s: 5}", "line 2: slos.deadline_s: needs rows; set both, or leave it out"),
        ("need: {rows: 5}", "line 2: need.by: expected a value, got none"),
        (
            "need: {rows: 5, by: 24:00}",
            "line 2: need.by: expected a time of day, as 06:00, got '24:00'",
        ),
        ("volumes: [1, 1]", "line 2: volumes: expected whole numbers of multiples of the input"),
    ],
)
def test_a_wrong_key_of_a_batch(problems_of, text, expected):
    (problem,) = problems_of(BATCH + text)
    assert problem.startswith(expected)
