"""A profile: what it means."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re

from scoreline.pipelines.load_test.judge.elements import Slos
from scoreline.pipelines.load_test.profile import Prices, Profile, Records, Trace, scale_argv
from tests.fakes import ROOT
from tests.pipelines.load_test.profiles import BATCH, KEYS, STREAM, read


def test_a_whole_profile_of_a_stream(profile_of, tmp_path):
    (tmp_path / "flights").mkdir()
    (tmp_path / "prices.yaml").write_text("currency: EUR\nworker_hour: 0.12\n")
    found = profile_of(
        """\
stream:
  brokers: [one:9092, "two:9092"]
  model: flights/7
  keys: [id, "a,b"]
  fill: {delay: 0.10, "a=b": ""}
  allow_missing: {seat: null}
  runner: flink
  parallelism: 4
  exactly_once: yes
  batch_rows: 512
records: flights
partitions: 6
workers: [1, 2, 4]
scale_command: [kubectl, scale, deployment/scorer, "--replicas={workers}"]
shape: trace
trace: {file: flights, column: time_hour}
seed: 0
start_rate_per_s: 1e3
soak_s: 300
slos:
  rate_per_s: 8_000
  latency_ms: 250
  latency_percentile: 99.9
  cost_per_million: .5
prices: prices.yaml
need: {rate_per_s: 20000}
precision: quick
budget_s: 600
output: out
"""
    )
    assert found == Profile(
        source="profile.yaml",
        mode="stream",
        argv=(
            "--brokers=one:9092,two:9092",
            "--model=flights/7",
            '--keys=id,"a,b"',
            "--fill=delay=0.10",
            '--fill="a=b"=',
            "--allow_missing=seat=null",
            "--runner=flink",
            "--parallelism=4",
            "--exactly_once",
            "--batch_rows=512",
        ),
        records=Records(path="flights", format="files"),
        partitions=6,
        workers=(1, 2, 4),
        scale_command=("kubectl", "scale", "deployment/scorer", "--replicas={workers}"),
        shape="trace",
        trace=Trace(file="flights", column="time_hour"),
        seed=0,
        start_rate_per_s=1000.0,
        soak_s=300.0,
        slos=Slos(
            rate_per_s=8000.0, latency_ms=250.0, latency_percentile=99.9, cost_per_million=0.5
        ),
        prices=Prices(currency="EUR", worker_hour=0.12, source="prices.yaml"),
        need=found.need,
        precision="quick",
        budget_s=600.0,
        output="out",
    )
    assert (found.need.rate_per_s, found.need.deadline_s) == (20_000.0, None)
    assert found.window_s == 60.0
    assert scale_argv(found, 4)[-1] == "--replicas=4"


def test_a_whole_profile_of_a_batch(profile_of):
    found = profile_of(
        BATCH
        + "volumes: [1, 8]\nprices: {currency: USD, worker_hour: 0}\n"
        + "slos: {rows: 1e7, deadline_s: 3600, error_share: 0.001}\n"
        + "need: {rows: 1_000_000_000, from: 22:30, by: 6:00}\n"
    )
    assert (found.mode, found.volumes, found.records) == ("batch", (1, 8), None)
    assert found.slos == Slos(rows=10_000_000, deadline_s=3600.0, error_share=0.001)
    assert found.prices.source == "profile"
    assert (found.need.rows, found.need.begin, found.need.by) == (
        10**9,
        dt.time(22, 30),
        dt.time(6, 0),
    )
    assert found.need.deadline_s == 7.5 * 3600


def test_a_need_begins_at_midnight_if_nothing_else_is_said(profile_of):
    assert profile_of(BATCH + "need: {rows: 5, by: '06:00'}").need.deadline_s == 6 * 3600


def test_flags_override_the_profile(profile_of):
    text = STREAM + "workers: [8]\nprecision: fine\nslos: {rate_per_s: 5, latency_ms: 9}\n"
    flags = ["--workers=1,2", "--precision=quick", "--rate_per_s=80", "--budget_s=1000"]
    found = profile_of(text, *flags, "--output=there", "--records=topic:new")
    assert (found.workers, found.precision, found.budget_s) == ((1, 2), "quick", 1000.0)
    assert (found.output, found.records.path) == ("there", "new")
    assert (found.slos.rate_per_s, found.slos.latency_ms) == (80.0, 9.0)


def test_the_profiles_of_the_page_are_right_and_name_every_key(profile_of, tmp_path):
    page = (ROOT / "docs" / "load-test.md").read_text("utf-8")
    stream, batch = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "build" / "flights").mkdir(parents=True)
    found = profile_of(stream)
    assert (found.mode, found.slos.rate_per_s, found.workers) == ("stream", 8000.0, (1, 2, 4))
    assert "--fill=dep_delay=0" in found.argv
    assert profile_of(batch).need.deadline_s == 6 * 3600
    for name in (*KEYS.split(", ")[2:], *(field.name for field in dataclasses.fields(Slos))):
        assert f"| `{name}`" in page or f"`{name}`" in page, name


def test_a_small_test_needs_no_profile():
    argv = ["stream", "--brokers", "h:1", "--model=m", "--keys=id", "--fill=a=1", "--fill=b=2"]
    found = read("--records=topic:t", "--rate_per_s=100", "--latency_ms=50", *argv)
    assert (found.source, found.mode, list(found.argv)) == ("", "stream", argv[1:])
    assert found.slos == Slos(rate_per_s=100.0, latency_ms=50.0)
    assert read("batch", "--input=i", "--model=m", "--keys=id").mode == "batch"
