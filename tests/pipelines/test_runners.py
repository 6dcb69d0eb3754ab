"""The choice of a runner by name, and the differences between runners; needs no engine."""

from __future__ import annotations

import ast

import apache_beam as beam
import pytest
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.portability.prism_runner import PrismRunner

from scoreline.pipelines.runners.any_runner import AnyRunner
from scoreline.pipelines.runners.flink import Flink
from scoreline.pipelines.runners.local import Local
from scoreline.pipelines.runners.prism import Prism
from scoreline.pipelines.runners.runner import choose_runner
from tests.fakes import ROOT

# Enough for a job on Flink.
ON_FLINK = ["--runner=flink", "--flink_master=h:1", "--flink_job_server_jar=http://h/runner.jar"]
NAMES = ("fnapi", "direct", "prism", "flink", "dataflow", "spark", "portable")


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("", Local),
        ("FnApiRunner", Local),
        ("DirectRunner", Local),
        ("direct", Local),
        ("PrismRunner", Prism),
        ("prism", Prism),
        ("flink", Flink),
        ("FLINK", Flink),
        ("apache_beam.runners.portability.flink_runner.FlinkRunner", Flink),
        ("DataflowRunner", AnyRunner),
        ("SparkRunner", AnyRunner),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_name_in_any_case_with_or_without_runner_chooses_a_strategy(name, strategy, streaming):
    chosen = choose_runner([f"--runner={name}"] if name else [], streaming=streaming)
    assert type(chosen) is strategy


def test_the_short_name_of_prism_makes_beams_runner():
    runner = choose_runner(["--runner=prism", "--prism_location=/p"])
    assert isinstance(runner.make_pipeline(1).runner, PrismRunner)
    assert runner.shares_process
    assert not runner.find_problems()


@pytest.mark.parametrize("name", ["FlnkRunner", "no.such.Runner", "scoreline.NoSuchRunner"])
def test_a_name_that_beam_does_not_know_is_refused_with_those_that_it_knows(name, score):
    ended = score(f"--runner={name}")
    assert ended.code == 2
    told = " ".join(ended.err.split())
    assert "--runner: expected FnApiRunner, PrismRunner, flink, another runner of Beam" in told
    assert f"got '{name}'" in told


def test_the_path_of_a_runners_class_is_a_name_too():
    name = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"
    runner = choose_runner([f"--runner={name}", "--option_of_a_job_server=5"])
    assert not runner.find_problems()
    pipeline = runner.make_pipeline(1)
    assert isinstance(pipeline.runner, BundleBasedDirectRunner)
    _ = pipeline | beam.Create([1])
    assert runner.run(pipeline, "name", print, endless=False).state == "DONE"


@pytest.mark.parametrize("runner", [[], ON_FLINK])
def test_a_misspelt_flag_is_refused_with_the_one_that_is_meant_and_without_its_value(runner):
    flags = ["--checkpointing_intervall=secret", "--db_password", "secret", "--modle=m"]
    told = choose_runner([*runner, *flags]).find_problems({"--model", "--keys"})
    assert told[1:] == [
        "unknown option --db_password",
        "unknown option --modle; did you mean --model?",
    ]
    if runner:
        assert told[0].endswith("--checkpointing_intervall; did you mean --checkpointing_interval?")
    assert "secret" not in str(told)


@pytest.mark.parametrize(
    "flags",
    [["--flink_master=h:1"], ["--model_sharing", "process"], ["--checkpointing_interval=5"]],
)
def test_flags_of_flink_are_refused_by_runners_that_would_not_honour_them(flags):
    problem = f"{flags[0].partition('=')[0]} needs --runner=flink; leave it out"
    assert choose_runner(flags).find_problems() == [problem]
    prism = ["--runner=prism", "--prism_location=/p"]
    assert choose_runner([*prism, *flags]).find_problems() == [problem]
    assert choose_runner([*ON_FLINK, *flags]).find_problems() == []


@pytest.mark.parametrize(
    ("runner", "has_output"),
    [("FnApiRunner", False), ("PrismRunner", True), ("FlinkRunner", False)],
)
def test_only_for_prism_a_streams_stage_gets_an_output(runner, has_output):
    """On other runners a stream is one stage. docs/streaming.md has the cost on Prism."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    last = pipeline | "Last" >> beam.Create([])
    choose_runner([f"--runner={runner}"], streaming=True).end_stream(last)
    transforms = pipeline.to_runner_api().components.transforms.values()
    assert ("GroupNothing" in {transform.unique_name for transform in transforms}) == has_output


def _compared(path):
    """The strings that a file uses in comparisons, patterns or tables."""
    for node in ast.walk(ast.parse(path.read_text())):
        found = []
        if isinstance(node, ast.Compare):
            found = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            found = [node.value]
        elif isinstance(node, ast.Dict):
            found = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found = node.args if node.func.attr in ("startswith", "endswith") else []
        for part in found:
            values = part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part]
            yield from (v.value for v in values if isinstance(v, ast.Constant))


def test_nobody_but_the_runners_room_compares_the_names_of_runners():
    rooms = ("lake", "models", "transforms", "pipelines", "demo", "deploy")
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        if path.is_relative_to(ROOT / "pipelines" / "runners"):
            continue
        for text in _compared(path):
            name = str(text).rpartition(".")[2].lower().removesuffix("runner")
            assert name not in NAMES, f"{path} compares with '{text}'"
