"""The JSON document: its schema describes it, and the next run compares itself with it."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import json
import math

import jsonschema
import numpy as np
import pytest

from scoreline.pipelines.load_test.judge.elements import Insufficient, Interval, Outcome
from scoreline.pipelines.load_test.report.document import to_document
from scoreline.pipelines.load_test.report.last_run import DOCUMENT, find_last_run
from tests.json_output import read_schema
from tests.pipelines.load_test import samples


def validate(document):
    schema = read_schema("load_test")
    jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(document)


@pytest.mark.parametrize("name", samples.ALL)
def test_a_document_is_described_by_its_schema(name):
    document = to_document(samples.ALL[name](), 0)
    validate(json.loads(json.dumps(document, allow_nan=False)))


def test_a_document_without_a_field_or_with_another_one_breaks_its_schema():
    document = to_document(samples.make_stream(), 0)
    for name in document:
        with pytest.raises(jsonschema.ValidationError):
            validate({key: value for key, value in document.items() if key != name})
    for change in (
        lambda it: it.update(more=1),
        lambda it: it["verdict"].update(outcome="maybe"),
        lambda it: it["probes"][0].pop("outcome"),
        lambda it: it["capacity"].update(passes_per_s="15,400"),
        lambda it: it.update(probes=[]),
    ):
        wrong = copy.deepcopy(document)
        change(wrong)
        with pytest.raises(jsonschema.ValidationError):
            validate(wrong)


def test_an_error_is_described_without_results():
    validate(
        {"schema": "scoreline.load_test/1", "version": "1", "exit_code": 2, "problems": ["wrong"]}
    )


def test_numbers_that_json_does_not_know_are_null():
    judged = samples.make_judged(
        latency_ms={"p99": Interval(118.0, 104.0, math.inf)},
        send_late_p99_ms=np.float64(np.nan),
        final_backlog=np.int64(5),
    )
    document = to_document(samples.make_stream(at_target=samples.make_probe(judged=judged)), 0)
    probe = document["at_target"]
    assert probe["latency_ms"]["p99"]["high"] is None
    assert probe["send_late_p99_ms"] is None
    assert probe["final_backlog"] == 5
    assert probe["series"]["latency_p99_ms"][7] is None
    validate(document)


def test_shares_of_stages_are_those_of_the_time_in_stages():
    (worker, _) = to_document(samples.make_stream(), 0)["at_target"]["workers_measured"]
    assert sum(stage["share"] for stage in worker["stages"]) == pytest.approx(1)
    assert {stage["name"]: round(stage["share"], 3) for stage in worker["stages"]}["decode"] == (
        round(6 / 56.5, 3)
    )


def keep(folder, name, test):
    """Write the document of an earlier run."""
    (folder / name).mkdir()
    (folder / name / DOCUMENT).write_text(json.dumps(to_document(test, 0)))


def earlier(days, **changes):
    started = samples.STARTED - dt.timedelta(days=days)
    return samples.make_stream(started=started, compared_with=None, **changes)


def with_capacity(per_s):
    capacity = samples.make_stream().capacity
    return dataclasses.replace(capacity, passes_per_s=per_s)


def test_a_run_is_compared_with_the_newest_one_before_it(tmp_path):
    now = samples.make_stream(compared_with=None)
    assert find_last_run(now, tmp_path) is None
    keep(tmp_path, "a", earlier(7, capacity=with_capacity(15_100.0)))
    keep(tmp_path, "b", earlier(9, capacity=with_capacity(9_000.0)))
    keep(tmp_path, "c", earlier(-1, capacity=with_capacity(99_000.0)))
    found = find_last_run(now, tmp_path)
    assert found.passes_per_s == 15_100.0
    assert found.capacity_change == pytest.approx(15_400 / 15_100 - 1)
    assert found.capacity_within_noise
    assert (found.p99_ms, found.p99_change, found.p99_within_noise) == (118.0, 0.0, True)
    assert found.same_model


def test_a_change_beyond_the_precision_is_no_noise(tmp_path):
    keep(tmp_path, "a", earlier(1, capacity=with_capacity(14_000.0)))
    found = find_last_run(samples.make_stream(), tmp_path)
    assert found.capacity_change == pytest.approx(0.1)
    assert not found.capacity_within_noise


def test_p99_is_compared_at_the_same_load_only_and_with_enough_samples(tmp_path):
    now = samples.make_stream()
    other_load = dataclasses.replace(now.target, rate_per_s=7000.0)
    keep(tmp_path, "a", earlier(1, target=other_load))
    assert find_last_run(now, tmp_path).p99_change is None
    few = samples.make_judged(latency_ms={"p99": Insufficient(662)})
    keep(tmp_path, "b", earlier(0.5, at_target=samples.make_probe(judged=few)))
    assert find_last_run(now, tmp_path).p99_ms is None
    worse = samples.make_judged(latency_ms={"p99": Interval(300.0, 280.0, 320.0)})
    again = samples.make_stream(at_target=samples.make_probe(judged=worse))
    keep(tmp_path, "c", earlier(0.25))
    assert not find_last_run(again, tmp_path).p99_within_noise


def test_batches_are_compared_by_the_cost_of_a_row(tmp_path):
    now = samples.make_batch()
    before = dataclasses.replace(now, started=now.started - dt.timedelta(days=1))
    cheaper = dataclasses.replace(before.volume, cpu_us_per_row=Interval(40.0, 39.0, 41.0))
    keep(tmp_path, "a", dataclasses.replace(before, volume=cheaper))
    found = find_last_run(now, tmp_path)
    assert (found.row_us, found.row_change) == (40.0, pytest.approx(0.18))
    assert not found.row_within_noise


def test_runs_of_another_subject_or_machine_and_damaged_ones_are_passed_over(tmp_path):
    now = samples.make_stream()
    subject = dataclasses.replace(now.subject, options=("--brokers=h:1",))
    keep(tmp_path, "other", earlier(1, subject=subject))
    keep(tmp_path, "machine", earlier(1, machine=dataclasses.replace(now.machine, cores=64)))
    keep(tmp_path, "invalid", earlier(1, outcome=Outcome.INVALID))
    for name, text in (("cut", '{"schema"'), ("old", '{"schema": "scoreline.load_test/0"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / DOCUMENT).write_text(text)
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / DOCUMENT).write_text("[1]")
    assert find_last_run(now, tmp_path) is None
    digest = dataclasses.replace(now.subject, model_digest="sha256:other", version="9")
    keep(tmp_path, "model", earlier(1, subject=digest))
    assert not find_last_run(now, tmp_path).same_model
