"""Settings for autoscalers: the numbers they come from, and schemas that they are held against."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re

import jsonschema
import pytest
import yaml
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.transforms.resources import resource_hints_from_options
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge.elements import Outcome, Slos
from scoreline.pipelines.load_test.judge.usl import ScalePoint
from scoreline.pipelines.load_test.load_results import Spike, Start
from scoreline.pipelines.load_test.report.scaling_settings import (
    DATAFLOW,
    FLINK,
    KEDA,
    make_scaling_settings,
)
from tests.fakes import ROOT
from tests.pipelines.load_test import samples
from tests.pipelines.load_test.report.test_any_numbers import results

SCHEMAS = ROOT / "tests" / "pipelines" / "load_test" / "schemas"
SCALED_OBJECT = jsonschema.Draft202012Validator(
    json.loads((SCHEMAS / "scaledobject.json").read_text())
)
FLINK_OPTIONS = set((SCHEMAS / "flink_options.txt").read_text().split())
# Of KEDA's manual, for the trigger `kafka`.
KAFKA_KEYS = {"bootstrapServers", "consumerGroup", "topic", "lagThreshold"}


def read_flink(files):
    """Return Flink's options, as the operator gives them to Flink."""
    document = yaml.safe_load(files[FLINK])
    assert set(document) == {"flinkConfiguration"}
    options = document["flinkConfiguration"]
    assert set(options) <= FLINK_OPTIONS
    for key, value in options.items():
        assert isinstance(value, str), key  # the operator takes texts only
        if key.endswith((".duration", ".interval", ".time", ".window")):
            assert re.fullmatch(r"[1-9]\d* s", value)
        elif key != "job.autoscaler.enabled":
            assert float(value) >= 0
    return options


def read_keda(files):
    """Return the spec of the ScaledObject."""
    document = yaml.safe_load(files[KEDA])
    SCALED_OBJECT.validate(document)
    spec = document["spec"]
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "kafka"
    assert trigger["metadata"].keys() == KAFKA_KEYS
    assert 1 <= int(trigger["metadata"]["lagThreshold"]) < 2**63
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
    assert spec["pollingInterval"] >= 1
    return spec


def read_dataflow(files):
    """Return Beam's options; an unknown one is an error."""
    argv = [line for line in files[DATAFLOW].splitlines() if not line.startswith("#")]
    options = PipelineOptions(["--streaming", *argv])
    known = options.get_all_options().keys() | {"resource_hint"}
    assert {flag.partition("=")[0].removeprefix("--") for flag in argv} <= known
    return options


def options_of(test):
    made = make_scaling_settings(test)
    return read_flink(made.files), read_keda(made.files), read_dataflow(made.files)


def test_settings_come_from_what_was_measured():
    flink, keda, dataflow = options_of(samples.make_stream(target=Slos(rate_per_s=10_000.0)))
    assert flink == {
        "job.autoscaler.enabled": "true",
        "job.autoscaler.utilization.target": "0.7",
        "job.autoscaler.utilization.max": "0.95",
        "job.autoscaler.utilization.min": "0.45",
        # 15,400/s × 0.7 holds 10,000/s, and 8,300/s × 0.7 does not.
        "job.autoscaler.vertex.min-parallelism": "2",
        "job.autoscaler.vertex.max-parallelism": "12",
        "pipeline.max-parallelism": "12",
        "job.autoscaler.catch-up.duration": "38 s",
        "job.autoscaler.stabilization.interval": "38 s",
        "job.autoscaler.restart.time": "9 s",
        "job.autoscaler.metrics.window": "120 s",
    }
    assert (keda["minReplicaCount"], keda["maxReplicaCount"], keda["pollingInterval"]) == (2, 12, 9)
    behavior = keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == {"scaleDown": {"stabilizationWindowSeconds": 38}}
    lag = float(keda["triggers"][0]["metadata"]["lagThreshold"])
    # All workers were there when the stream recovered in 38 s: a start of 8.1 s comes on top.
    assert lag == pytest.approx(27_100 / 4 * 0.3 * (38 + 8.1 - 9 - 8.1), abs=1)
    workers = dataflow.view_as(WorkerOptions)
    assert (workers.num_workers, workers.max_num_workers) == (2, 12)
    assert workers.autoscaling_algorithm == "THROUGHPUT_BASED"
    services = dataflow.view_as(GoogleCloudOptions).dataflow_service_options
    assert services == ["worker_utilization_hint=0.7"]
    assert dataflow.view_as(StandardOptions).resource_hints == ["min_ram=609MB"]  # 812 ÷ 2 × 1.5
    assert list(resource_hints_from_options(dataflow).values()) == [b"609000000"]


def test_a_limit_of_recovery_goes_before_the_measured_one():
    target = Slos(rate_per_s=10_000.0, recover_s=60.0)
    flink, keda, _ = options_of(samples.make_stream(target=target))
    assert flink["job.autoscaler.catch-up.duration"] == "60 s"
    assert flink["job.autoscaler.stabilization.interval"] == "38 s"
    lag = float(keda["triggers"][0]["metadata"]["lagThreshold"])
    assert lag == pytest.approx(27_100 / 4 * 0.3 * (60 - 12 - 8.1), abs=1)


def test_the_workers_that_keda_asks_for_end_a_backlog_in_time():
    """A simulation: as long as the load holds, the backlog is gone within the limit."""
    target = Slos(rate_per_s=10_000.0, recover_s=60.0)
    _, keda, _ = options_of(samples.make_stream(target=target))
    lag_rows = int(keda["triggers"][0]["metadata"]["lagThreshold"])
    worker_per_s, backlog = 27_100 / 4, 500_000.0
    workers = min(keda["maxReplicaCount"], math.ceil(backlog / lag_rows))
    assert workers < keda["maxReplicaCount"]
    in_per_s = 0.7 * worker_per_s * workers
    left_s = 60 - keda["pollingInterval"] - 8.1  # of the start
    assert backlog + in_per_s * left_s <= worker_per_s * workers * left_s
    fewer = workers - 1
    assert backlog > 0.3 * worker_per_s * fewer * left_s


def test_what_was_not_measured_is_left_out_and_said():
    probe = samples.make_probe(peak_rss_mb=None)
    test = samples.make_stream(
        target=Slos(), spike=None, start=None, at_target=None, probes=(probe,)
    )
    made = make_scaling_settings(test)
    assert made.problems == (
        "keda-scaledobject.yaml is not written: its lag threshold needs the limit `recover_s`, or "
        "a spike that recovered.",
    )
    assert made.files.keys() == {FLINK, DATAFLOW}
    left_out = re.findall(r"# (\S+) is left out: (.*)", "".join(made.files.values()))
    unknown = "no spike was measured that recovered"
    assert left_out == [
        ("job.autoscaler.vertex.min-parallelism", "the limits have no `rate_per_s`"),
        ("job.autoscaler.catch-up.duration", unknown),
        ("job.autoscaler.stabilization.interval", unknown),
        ("job.autoscaler.metrics.window", "no window was measured"),
        ("job.autoscaler.restart.time", "no start was measured"),
        ("--num_workers", "the limits have no `rate_per_s`"),
        ("--resource_hint=min_ram", "no memory was measured"),
    ]
    options = read_flink(made.files)
    assert not {key for key, _ in left_out} & options.keys()
    assert read_dataflow(made.files).view_as(WorkerOptions).num_workers is None


def test_a_start_that_is_not_measured_is_said_in_kedas_file():
    made = make_scaling_settings(samples.make_stream(start=None))
    assert "The start of a worker is not measured: subtract it too." in made.files[KEDA]
    lag = float(read_keda(made.files)["triggers"][0]["metadata"]["lagThreshold"])
    assert lag == pytest.approx(27_100 / 4 * 0.3 * (38 - 7), abs=1)


def test_a_recovery_shorter_than_a_start_cannot_be_had_by_adding_workers():
    slow = Start(median_s=40.0, longest_s=50.0, starts=3)
    made = make_scaling_settings(samples.make_stream(target=Slos(recover_s=60.0), start=slow))
    assert made.problems == (
        "keda-scaledobject.yaml is not written: a worker has its first score 50 s after its start, "
        "and a backlog must be gone after 60 s. Set a longer `recover_s`.",
    )
    assert made.files.keys() == {FLINK, DATAFLOW}
    made = make_scaling_settings(samples.make_stream(target=Slos(recover_s=120.0), start=slow))
    assert KEDA in made.files


def test_workers_that_are_unknown_are_not_guessed():
    test = samples.make_stream(target=Slos(rate_per_s=90_000.0))
    made = make_scaling_settings(test)
    assert (
        "# job.autoscaler.vertex.min-parallelism is left out: No tested count" in made.files[FLINK]
    )
    assert read_keda(made.files)["minReplicaCount"] == 1


def test_every_setting_has_a_comment_above_it():
    files = make_scaling_settings(samples.make_stream(target=Slos(rate_per_s=8000.0))).files
    for name, pattern in [(FLINK, r"  \S+: "), (DATAFLOW, "--"), (KEDA, r"  (min|max)R|  poll")]:
        lines = files[name].splitlines()
        for above, line in itertools.pairwise(lines):
            if re.match(pattern, line) and "autoscaler.enabled" not in line:
                assert above.lstrip().startswith("# "), line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outcome": Outcome.INVALID}, "expected a valid measurement"),
        ({"capacity": None, "scaling": None}, "expected a load that passes, got none"),
    ],
)
def test_numbers_that_are_wrong_make_no_settings(changes, said):
    made = make_scaling_settings(samples.make_stream(**changes))
    assert made.files == {}
    (problem,) = made.problems
    assert said in problem


ANY = st.one_of(st.floats(), st.floats(0, 1e6))


@st.composite
def streams(draw):
    """Return results of streams with missing parts and any numbers."""
    test = draw(results())
    scaling = samples.make_stream().scaling
    points = st.builds(ScalePoint, workers=st.integers(0, 40), per_s=ANY)
    partitions = draw(st.integers(0, 64))
    shown = samples.make_probe(
        workers=draw(st.integers(0, 4)), window_s=draw(ANY), peak_rss_mb=draw(st.none() | ANY)
    )
    return dataclasses.replace(
        test,
        subject=dataclasses.replace(
            samples.make_stream().subject, partitions=partitions, model=draw(st.text())
        ),
        target=Slos(rate_per_s=draw(st.none() | ANY), recover_s=draw(st.none() | ANY)),
        probes=(shown,),
        at_target=draw(st.sampled_from([None, shown])),
        spike=draw(
            st.none()
            | st.builds(
                Spike,
                base_per_s=ANY,
                peak_per_s=ANY,
                for_s=ANY,
                recovered_s=st.none() | ANY,
            )
        ),
        start=draw(
            st.none() | st.builds(Start, median_s=ANY, longest_s=ANY, starts=st.integers(1, 9))
        ),
        scaling=draw(
            st.none()
            | st.builds(
                dataclasses.replace,
                st.just(scaling),
                tested=st.lists(points, max_size=6).map(tuple),
                max_workers=st.none() | st.integers(0, 64),
                demand=st.none() | st.just(scaling.demand),
            )
        ),
    )


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(test=streams())
def test_any_result_has_valid_settings_or_a_reason(test):
    made = make_scaling_settings(test)
    if made.files:
        flink = read_flink(made.files)
        low = flink.get("job.autoscaler.vertex.min-parallelism", "1")
        assert 1 <= int(low) <= int(flink["job.autoscaler.vertex.max-parallelism"])
        resource_hints_from_options(read_dataflow(made.files))
    if KEDA in made.files:
        read_keda(made.files)
    else:
        assert made.problems
