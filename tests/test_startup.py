"""A command answers at once: it imports what it needs, and not before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv

from scoreline.lake.table.scores import create_table
from tests.fakes import ROOT, make_rows

SLOW = {
    *("apache_beam", "tensorflow", "keras", "tfx_bsl", "ai_edge_litert", "confluent_kafka"),
    *("google.cloud.storage", "google.auth", "google.api_core", "grpc", "requests", "pandas"),
}
# The third-party packages that a command may load, by their top-level names. Names that begin with
# an underscore, and those of compiled parts without a package, do not count.
ARROW = {"numpy", "pyarrow", "cloudpickle", "dateutil", "six"}
TABLE = ARROW | {"deltalake", "arro3", "rich", "google_crc32c", "typing_extensions"}
BEAM = {
    *("apache_beam", "google.protobuf", "google._upb", "grpc", "proto", "dill", "fastavro"),
    *("backports", "cramjam", "zstandard"),
    *("pytz", "mmh3", "objsize", "sortedcontainers", "packaging", "absl", "certifi"),
}
# What reads a SavedModel's file. TensorFlow is called by its C library.
MODEL = {"google.protobuf", "google._upb"}
KAFKA = {"confluent_kafka", "orjson"}
RUN = """
import contextlib, io, json, sys
from scoreline.__main__ import main
out, err = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
        code = main(sys.argv[1:], own_process=True)
    except SystemExit as e:
        code = e.code or 0
print(json.dumps({"code": code, "text": out.getvalue() + err.getvalue(),
                  "modules": sorted(sys.modules)}))
"""


def run(*args):
    command = [sys.executable, "-c", RUN, *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--help"], 0, "usage: scoreline COMMAND"),
        (["batch", "--help"], 0, "--max_dead_letter_ratio"),
        (["stream", "--help"], 0, "--dead_letter_topic"),
        (["replay", "--help"], 0, "--output"),
        (["inspect", "--help"], 0, "--model"),
        (["table", "status", "--help"], 0, "--input"),
        (["batch", "--nonsense=s3cret"], 2, "unknown option --nonsense\n"),
        (["batch", "--inptu=lake"], 2, "unknown option --inptu; did you mean --input?\n"),
        (["batch", "--strea_ming"], 2, "did you mean --streaming?"),
        (["batch"], 2, "--input is required"),
        (["stream", "--json"], 2, "--brokers is required"),
        (["inspect"], 2, "--model is required"),
        (["replay", "--topic=t"], 2, "replay does not take --topic; it is a flag of stream"),
        (["table", "history"], 2, "required: --output"),
        (["load-test", "--help"], 0, "--precision"),
        (["load-test", "--rate_per_s=5"], 2, "--profile is required"),
        (["load-test", "--profile={wrong}"], 2, "slos.latency: unknown key"),
    ],
)
def test_help_and_wrong_options_import_nothing_that_is_slow(arguments, code, told, tmp_path):
    wrong = tmp_path / "profile.yaml"
    wrong.write_text("slos: {latency: 5}\n")
    ended = run(*(argument.format(wrong=wrong) for argument in arguments))
    assert ended["code"] == code
    assert told in ended["text"]
    assert "s3cret" not in ended["text"]
    assert not (SLOW | {"rich", "deltalake"}) & set(ended["modules"])


@pytest.mark.parametrize("action", ["status", "history", "vacuum"])
def test_a_look_at_a_table_imports_no_engine_and_no_model(tmp_path, action):
    schema = pa.schema([("id", pa.int64()), ("score", pa.float32())])
    create_table(str(tmp_path / "scores"), schema, ["date"])
    ended = run("table", action, "--output", tmp_path / "scores")
    assert ended["code"] == 0
    assert not SLOW & set(ended["modules"])


@pytest.mark.parametrize("kind", ["module", "estimator", "examples", "keras_2", "odd_tf2/python"])
def test_a_look_at_a_saved_model_imports_no_framework(zoo, kind):
    folder, _, below = kind.partition("/")
    ended = run("inspect", "--model", Path(zoo(folder), below), "--json")
    assert ended["code"] == (2 if below else 0), ended["text"]
    assert "serving_default" in ended["text"]
    assert not SLOW & set(ended["modules"])


def test_a_look_at_a_litert_model_imports_only_litert(zoo):
    ended = run("inspect", "--model", zoo("model.tflite"))
    assert ended["code"] == 0, ended["text"]
    assert SLOW & set(ended["modules"]) == {"ai_edge_litert"}


def test_a_check_of_a_model_in_its_own_process_loads_it_there_alone(model, lake, tmp_path):
    where = ["--input", lake, "--model", model, "--keys=id", "--output", tmp_path / "scores"]
    ended = run("batch", *where, "--check", "--batch_timeout_s=100")
    assert ended["code"] == 0, ended["text"]
    assert "tensorflow" not in ended["modules"]
    assert "scoreline.models.runtimes.tensorflow_c" not in ended["modules"]


def test_options_of_beam_are_left_to_beam():
    """Known ones are not refused early, and so everything else that is wrong is told."""
    ended = run("batch", "--job_name", "nightly", "--save_main_session", "--model_sharing=process")
    assert ended["code"] == 2
    assert "unknown" not in ended["text"]
    assert "--input is required" in ended["text"]
    assert "apache_beam" not in ended["modules"]


def test_flags_of_a_runner_that_is_named_are_asked_of_it():
    ended = run("batch", "--runner=FnApiRunner", "--nonsense")
    assert ended["code"] == 2
    assert "unknown option --nonsense" in ended["text"]
    assert "apache_beam" in ended["modules"]


def packages_of(modules):
    """Return the third-party packages of modules; of the namespace `google`, the packages in it."""
    found = set()
    for module in modules:
        top, _, rest = module.partition(".")
        found.add(f"google.{rest.partition('.')[0]}" if top == "google" else top)
    known = {*sys.stdlib_module_names, "scoreline", "google.", "google.cloud", "cython_runtime"}
    return {name for name in found - known if not name.startswith("_") and not is_compiled(name)}


def is_compiled(name):
    """Whether a name is a hash, which mypyc gives to the shared part of a package."""
    return len(name) == 40 and set(name) <= set("0123456789abcdef")


INPUT = ["--input={lake}", "--model={model}"]
NO_BROKER = ["--brokers=127.0.0.1:1", "--topic=t", "--model={model}", "--output_topic=o"]
NO_BROKER += ["--group=g", "--keys=id"]


@pytest.mark.parametrize(
    ("arguments", "code", "allowed"),
    [
        (["--help"], 0, set()),
        (["batch", "--help"], 0, ARROW),
        (["batch", *INPUT, "--keys=id", "--output={new}"], 0, TABLE | BEAM),
        (["batch", *INPUT, "--keys=id", "--output={new}", "--check"], 0, TABLE | BEAM),
        (["inspect", *INPUT], 0, TABLE | MODEL),
        (["table", "status", "--output={table}"], 0, TABLE),
        (["table", "verify", "--output={table}"], 0, TABLE),
        (["stream", *NO_BROKER], 2, TABLE | BEAM | KAFKA),
        (["stream", *NO_BROKER, "--restart"], 2, ARROW),
    ],
    ids=[
        "help",
        "batch-help",
        "batch",
        "check",
        "inspect",
        "table-status",
        "table-verify",
        "stream",
        "supervisor",
    ],
)
def test_a_command_loads_only_packages_that_it_uses(
    arguments, code, allowed, model, lake, tmp_path
):
    """A package that is new in these lists costs every start of a command, so measure it first."""
    schema = pa.schema([("id", pa.int64()), ("score", pa.float32())])
    places = {"lake": lake, "model": model, "new": tmp_path / "new", "table": tmp_path / "table"}
    create_table(str(places["table"]), schema, ["date"])
    ended = run(*(argument.format(**places) for argument in arguments))
    assert ended["code"] == code, ended["text"]
    assert packages_of(ended["modules"]) - allowed == set()
    is_supervisor = "scoreline.pipelines.restart_stream" in ended["modules"]
    assert is_supervisor is ("--restart" in arguments)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_batch_of_text_loads_only_packages_that_it_uses(suffix, model, tmp_path):
    rows = make_rows(0, 20)
    folder = tmp_path / "lake" / "date=2024-01-01"
    folder.mkdir(parents=True)
    if suffix == "csv":
        csv.write_csv(rows, folder / "0.csv")
    else:
        lines = [json.dumps(row) + "\n" for row in rows.to_pylist()]
        (folder / "0.jsonl").write_text("".join(lines))
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({field.name: str(field.type) for field in rows.schema}))
    flags = [f"--model={model}", "--keys=id", f"--output={tmp_path / 'table'}"]
    ended = run("batch", f"--input={tmp_path / 'lake'}", f"--schema={schema}", *flags)
    assert ended["code"] == 0, ended["text"]
    assert packages_of(ended["modules"]) - (TABLE | BEAM) == set()
