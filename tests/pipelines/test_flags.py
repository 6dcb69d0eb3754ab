"""Each command takes the flags that it honours, and no other: every flag has a case here.

A case is a pair of command lines. What the command makes of them, its plan or its refusal, differs.
A flag without a case fails, so a new flag needs one.
"""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest

from scoreline.pipelines import inspect_model, replay, score_batch
from scoreline.pipelines.load_test.read_profile import read_profile
from scoreline.pipelines.options.batch import BatchSettings
from scoreline.pipelines.options.commands import COMMANDS, make_parser, parse_flags
from scoreline.pipelines.options.inspect import InspectSettings
from scoreline.pipelines.options.kafka_source import VALUE_FORMATS
from scoreline.pipelines.options.load_test import LoadTestSettings, read_load_test
from scoreline.pipelines.options.optimize import OptimizeSettings, read_optimize
from scoreline.pipelines.options.problems import BadOptions, Problems
from scoreline.pipelines.options.replay import ReplaySettings
from scoreline.pipelines.options.stream import StreamSettings, read_stream
from scoreline.pipelines.runners.runner import choose_runner
from scoreline.transforms.kafka.decode import FORMATS
from tests.fakes import ROOT, Ended, make_rows, save_model, write_file
from tests.inputs import write_bytes
from tests.model_zoo import op_library

OTHER_DIGEST = "--model_digest=sha256:" + "0" * 64
# Flags about the model, and what makes them matter; `{…}` are paths of the fixture.
MODEL = {
    "--model": "--model={other}",
    "--signature": "--signature=other",
    "--tags": "--tags=train",
    "--columns": "--columns=x=n",
    "--fill": "--fill=x=1",
    "--pad": "--pad=x=1",
    "--pad_length": "--pad_length=x=5",
    "--truncate": "--truncate=x",
    "--outputs": "--outputs=score=late",
    "--load_op_library": "--load_op_library={library}",
    "--model_digest": OTHER_DIGEST,
    "--batch_rows": "--batch_rows=7",
    "--batch_timeout_s": "--batch_timeout_s=90",
    "--allow_impure": "--allow_impure=why",
}
ROWS = {
    "--keys": "--keys=n",
    "--keep": "--keep=unread",
    "--forbid": "--forbid=nan",
    "--range": "--range=score=0..1",
}
# Some flags matter only beside others, which stand before the bar.
DATASET = {
    "--input": "--input={csv}",
    "--schema": "--input={csv} --columns=x=float32(x) | --schema={schema}",
    "--allow_missing": "--input={gap} | --allow_missing=x=1",
    "--partitions": "--partitions=date=2024-01-02",
    "--last": "--last=1",
    "--csv_escape": "--input={csv} --columns=x=float32(x) | --csv_escape=\\",
    "--max_value_bytes": "--max_value_bytes=9999",
    "--max_batch_bytes": "--max_batch_bytes=99999999",
}
CASES = {
    "batch": MODEL
    | ROWS
    | DATASET
    | {
        "--output": "--output={elsewhere}",
        "--reprocess": "--output={scored} | --reprocess=all",
        "--max_dead_letter_ratio": "--max_dead_letter_ratio=0.5",
        "--workers": "--workers=3",
        "--check": "--check",
    },
    "stream": MODEL
    | ROWS
    | {
        "--brokers": "--brokers=h:2",
        "--kafka_config": "--kafka_config={config}",
        "--topic": "--topic=t2",
        "--group": "--group=g2",
        "--format": "--format=example",
        "--schema": "--schema={schema}",
        "--avro_schema_id": "--format=avro --schema={schema} | --avro_schema_id=5",
        "--schema_registry": "--format=avro | --schema_registry=http://h:1",
        "--allow_missing": "--allow_missing=x=1",
        "--start": "--start=latest",
        "--start_time": "--start=timestamp --start_time=1795500000000 | --start_time=1795500000001",
        "--until_end": "--until_end",
        "--output_topic": "--output_topic=o2",
        "--output_format": "--output_format=avro",
        "--output_schema_id": "--output_format=avro | --output_schema_id=5",
        "--output": "--output={elsewhere}",
        "--flush_interval_s": "--output={elsewhere} | --flush_interval_s=5",
        "--dead_letter_topic": "--dead_letter_topic=d",
        "--exactly_once": "--exactly_once",
        "--latency_target_ms": "--latency_target_ms=50",
        "--readers": "--readers=2",
        "--heartbeat_file": "--heartbeat_file={elsewhere}",
        "--restart": "--restart",
        "--check": "--check",
        "--watch_model_s": "--watch_model_s=5",
        "--swap_max_disagreement": "--watch_model_s=5 | --swap_max_disagreement=0.1",
        "--swap_max_latency_ratio": "--watch_model_s=5 | --swap_max_latency_ratio=3",
    },
    "replay": MODEL
    | ROWS
    | {
        "--output": "--output={elsewhere}",
        "--partitions": "--partitions=date=2024-01-02",
        "--check": "--check",
    },
    "inspect": MODEL
    | DATASET
    | {
        "--forbid": "--forbid=nan",
        "--range": "--range=score=0..1",
    },
    "load-test": {
        "--profile": "--profile={other_profile}",
        "--rate_per_s": "--rate_per_s=5",
        "--latency_ms": "--latency_ms=70",
        "--records": "--records=topic:t",
        "--workers": "--workers=1,2",
        "--precision": "--precision=fine",
        "--budget_s": "--budget_s=3600",
        "--output": "--output={elsewhere}",
        "--write_scaling": "--write_scaling={elsewhere}",
    },
}
OPTIMIZE = {
    "--keys": "--keys=n",
    "--label": "--label=n",
    "--metric": "--metric=agreement",
    "--score": "--score=score",
    "--tolerance": "--tolerance=0.01",
    "--slices": "--slices=s",
    "--threshold": "--threshold=0.5",
    "--max_rows": "--max_rows=7",
    "--passes": "--passes=litert_float32",
    "--recipe": "--recipe={schema}",
    "--output": "--output={elsewhere}",
}
CASES["optimize"] = {flag: case for flag, case in MODEL.items() if flag != "--batch_timeout_s"}
CASES["optimize"] |= DATASET | OPTIMIZE
RUNNER = {
    "--runner": "--runner=PrismRunner",
    "--model_sharing": "--runner=flink | --model_sharing=process",
    "--submit_timeout_s": "--runner=flink | --submit_timeout_s=9",
}
BASE = {
    "batch": ["--input={lake}", "--model={model}", "--keys=id", "--output={fresh}"],
    "stream": [
        *("--brokers=h:1", "--topic=t", "--group=g", "--model={model}", "--keys=id"),
        "--output_topic=o",
    ],
    "replay": ["--output={scored}", "--model={model}", "--keys=id"],
    "inspect": ["--input={lake}", "--model={model}"],
    "load-test": ["--profile={profile}"],
    "optimize": ["--input={lake}", "--model={model}", "--keys=id", "--output={fresh}"],
}
SETTINGS = {
    "batch": BatchSettings,
    "stream": StreamSettings,
    "replay": ReplaySettings,
    "inspect": InspectSettings,
    "load-test": LoadTestSettings,
    "optimize": OptimizeSettings,
}
MODULES = {
    "batch": "score_batch",
    "stream": "score_stream",
    "replay": "replay",
    "inspect": "inspect_model",
    "load-test": "load_test.command",
    "optimize": "optimize.command",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory, lake, model):
    """Make what the cases name."""
    root = tmp_path_factory.mktemp("flags")
    rows = make_rows(0, 20)
    write_file(root / "gap", "date=2024-01-01", "0.parquet", rows)
    write_file(root / "gap", "date=2024-01-02", "0.parquet", rows.drop_columns(["x"]))
    write_bytes(root / "csv" / "date=2024-01-01" / "0.csv", b"id,x,n,s\n1,0.5,2,a\n")
    (root / "schema.json").write_text('{"id": "int32", "x": "double", "n": "int64", "s": "string"}')
    (root / "client.properties").write_text("client.id=me\n")
    holes = rows.set_column(1, "x", pa.array([None, *[1.0] * 19], pa.float32()))
    for day in (1, 2):
        write_file(root / "holes", f"date=2024-01-0{day}", "0.parquet", holes)
    for name in ("profile", "other_profile"):
        stream = f"{{brokers: {name}, model: m, keys: id}}"
        (root / f"{name}.yaml").write_text(f"stream: {stream}\nrecords: topic:old\n")
    places = {
        "profile": root / "profile.yaml",
        "other_profile": root / "other_profile.yaml",
        "lake": lake,
        "model": model,
        "other": save_model(root / "other", weight=3.0),
        "library": op_library(),
        "gap": root / "gap",
        "csv": root / "csv",
        "schema": root / "schema.json",
        "config": root / "client.properties",
        "fresh": root / "fresh",
        "elsewhere": root / "elsewhere",
        "scored": root / "scored",
    }
    flags = [f"--input={root / 'holes'}", f"--model={model}", "--keys=id"]
    ended = score_batch.main([*flags, f"--output={root / 'scored'}", "--max_dead_letter_ratio=1"])
    assert ended == 3
    return places


def outcome_of(command, argv, capsys):
    """Return what a command makes of a command line, as text to be compared."""
    try:
        return _OUTCOMES[command](argv, capsys)
    except BadOptions as e:
        return repr(e.problems)


def _plan_batch(argv, capsys):
    settings, _, found, _ = score_batch.prepare(argv)
    plan = found.plan
    if plan is not None:
        metadata = {**plan.commit.metadata, "job_id": ""}
        plan = dataclasses.replace(plan, commit=plan.commit._replace(metadata=metadata))
    return repr((settings.check, settings.workers, found.states.todo, plan))


def _read_stream(argv, capsys):
    problems = Problems()
    settings = read_stream(parse_flags("stream", argv, problems).given, problems)
    problems.check()
    return repr(settings)


def _run(module):
    def run(argv, capsys):
        capsys.readouterr()
        code = module.main(argv)
        return repr(Ended(code, *capsys.readouterr()))

    return run


def _replay(argv, capsys):
    problems = Problems()
    settings = replay.read_replay(parse_flags("replay", argv, problems).given, problems)
    told = ""
    if settings.check:  # only then nothing is written, and a case leaves others alone
        told = _run(replay)(argv, capsys)
    problems.check()
    return repr((settings, told))


def _inspect(argv, capsys):
    problems = Problems()
    settings = inspect_model.read_inspect(parse_flags("inspect", argv, problems).given, problems)
    return repr((settings, _run(inspect_model)(argv, capsys)))


def _load_test(argv, capsys):
    problems = Problems()
    settings = read_load_test(parse_flags("load-test", argv, problems).given, problems)
    return repr(read_profile(settings, problems))


def _optimize(argv, capsys):
    problems = Problems()
    settings = read_optimize(parse_flags("optimize", argv, problems).given, problems)
    problems.check()
    return repr(settings)


_OUTCOMES = {
    "optimize": _optimize,
    "load-test": _load_test,
    "batch": _plan_batch,
    "stream": _read_stream,
    "replay": _replay,
    "inspect": _inspect,
}


def lines_of(case, base, places):
    """Return the two command lines of a case."""
    before, bar, flag = case.rpartition(" | ")
    beside = before.split() if bar else []
    given = [*base, *beside]
    return [
        [argument.format(**places) for argument in argv]
        for argv in (given, [*given, *flag.split()])
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_a_command_has_a_case(command):
    cases = CASES[command].keys() | (RUNNER.keys() if COMMANDS[command].takes_beam else set())
    assert make_parser(command, whole=True).flags - {"--json"} == cases


@pytest.mark.parametrize(
    ("command", "flag"), [(command, flag) for command, cases in CASES.items() for flag in cases]
)
def test_a_flag_changes_what_is_done(command, flag, places, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    without, given = lines_of(CASES[command][flag], BASE[command], places)
    assert outcome_of(command, given, capsys) != outcome_of(command, without, capsys)


@pytest.mark.parametrize("flag", RUNNER)
def test_a_flag_about_the_runner_changes_its_options(flag):
    without, given = lines_of(RUNNER[flag], [], {})
    options = [choose_runner(argv).options.get_all_options() for argv in (without, given)]
    assert options[0] != options[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_is_read_by_the_command_that_takes_its_flag(command):
    """A flag that is parsed, and then forgotten, would pass for one that is honoured."""
    read = _attributes_read(MODULES[command])
    if COMMANDS[command].supervisor:  # which is chosen by --restart
        read |= _attributes_read("command")
    assert {field for field in _fields(SETTINGS[command]) if field not in read} == set()


def _fields(settings):
    for field in dataclasses.fields(settings):
        yield field.name
        for family in _FAMILIES:
            if family.__name__ in str(field.type):
                yield from _fields(family)


def _families():
    from scoreline.models.fit import FitOptions
    from scoreline.pipelines.options import (
        dataset,
        kafka_sink,
        kafka_source,
        model,
        rows,
        swap,
        table,
    )

    return [
        FitOptions,
        dataset.DatasetSettings,
        kafka_sink.SinkSettings,
        kafka_source.SourceSettings,
        model.ModelSettings,
        rows.KeySettings,
        rows.RuleSettings,
        swap.SwapSettings,
        table.TableSettings,
    ]


_FAMILIES = _families()


def _attributes_read(name):
    """Return the attributes that a command's modules read, the parsing of options left out."""
    todo, done, read = [f"scoreline.pipelines.{name}", "scoreline.models.fit"], set(), set()
    while todo:
        module = todo.pop()
        path = ROOT / Path(*module.split(".")[1:]).with_suffix(".py")
        if module in done or not path.is_file():
            continue
        done.add(module)
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
            if isinstance(node, ast.ImportFrom) and node.module:
                if node.module.startswith("scoreline.pipelines.options"):
                    continue
                if node.module.startswith("scoreline.pipelines."):
                    todo.append(node.module)
    return read


@pytest.mark.parametrize(
    ("command", "argv", "told"),
    [
        ("batch", ["--topic=t"], "batch does not take --topic; it is a flag of stream"),
        ("stream", ["--last", "3"], "stream does not take --last; it is a flag of batch, "),
        (
            "replay",
            ["--input=x"],
            "replay does not take --input; it is a flag of batch, inspect and optimize",
        ),
        ("replay", ["--workers=2"], "replay does not take --workers; it is a flag of batch"),
        ("replay", ["--runner=flink"], "unknown option --runner"),
        ("replay", ["there"], "expected flags only, got 'there'"),
        ("inspect", ["--keys=id"], "inspect does not take --keys; it is a flag of batch, stream"),
        ("inspect", ["--output=x"], "inspect does not take --output"),
        ("inspect", ["--token", "secret"], "unknown option --token"),
    ],
)
def test_flags_of_other_commands_and_unknown_ones_are_refused(command, argv, told):
    problems = Problems()
    parse_flags(command, argv, problems)
    (problem,) = problems
    assert told in problem
    assert "secret" not in problem
    with pytest.raises(BadOptions):
        problems.check_usage()


def test_flags_about_rows_need_rows():
    problems = Problems()
    given = parse_flags("inspect", ["--model=m", "--fill=x=1", "--last=2"], problems).given
    inspect_model.read_inspect(given, problems)
    assert list(problems) == [
        "--last needs --input; leave it out, or set both",
        "--fill needs --input; leave it out, or set both",
    ]


def test_value_formats_are_those_that_can_be_decoded():
    assert VALUE_FORMATS == FORMATS
