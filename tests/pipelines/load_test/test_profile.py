"""A profile: what it means, and each of its problems, all at once and in plain words."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from typing import NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.pipelines.load_test.judge.elements import Slos
from scoreline.pipelines.load_test.profile import Prices, Profile, Records, Trace, scale_argv
from scoreline.pipelines.load_test.read_profile import read_profile
from scoreline.pipelines.load_test.tested import SET_BY_TEST
from scoreline.pipelines.options.commands import make_parser, parse_flags
from scoreline.pipelines.options.load_test import read_load_test
from scoreline.pipelines.options.problems import BadOptions, Problems
from tests.fakes import ROOT

STREAM = "stream: {brokers: h:1, model: m, keys: id}\nrecords: topic:old\n"
BATCH = "batch: {input: lake, model: m, keys: id}\n"


def read(*argv):
    """Return the profile of a command line."""
    problems = Problems()
    given_, _ = parse_flags("load-test", [str(argument) for argument in argv], problems)
    return read_profile(read_load_test(given_, problems), problems)


@pytest.fixture
def profile_of(tmp_path, monkeypatch):
    """Return a function that reads a text as profile.yaml."""
    monkeypatch.chdir(tmp_path)

    def call(text, *flags):
        (tmp_path / "profile.yaml").write_text(text, "utf-8")
        return read("--profile=profile.yaml", *flags)

    return call


@pytest.fixture
def problems_of(profile_of):
    """Return a function that returns the problems of a profile, without its name."""

    def call(text, *flags):
        with pytest.raises(BadOptions) as e:
            profile_of(text, *flags)
        assert e.value.exit_code == 2
        return [problem.removeprefix("profile.yaml, ") for problem in e.value.problems]

    return call


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


KEYS = "stream, batch, records, partitions, workers, scale_command, shape, trace, seed, "
KEYS += "start_rate_per_s, soak_s, slos, volumes, prices, need, precision, budget_s, output"
NO_WORKERS = (
    "workers: expected whole numbers of workers from 1 to 10,000, ascending, as [1, 2, 4], got "
)
SCALE = "expected a list of arguments with {workers}, as [kubectl, scale, …, --replicas={workers}]"
RECORDS = "expected a file or folder of .parquet, .jsonl or .tfrecord files, or topic:NAME, got "


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


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            "kees: id",
            "line 1: stream.kees: `scoreline stream` has no flag --kees; did you mean keys?",
        ),
        ("last: 3", "line 1: stream.last: `scoreline stream` has no flag --last"),
        ("help: 1", "line 1: stream.help: `scoreline stream` has no flag --help"),
        ("restart: maybe", "line 1: stream.restart: the load test sets it; leave it out: the load"),
        ("exactly_once: 1", "line 1: stream.exactly_once: expected true or false, got '1'"),
        (
            "batch_rows: {a: 1}",
            "line 1: stream.batch_rows: expected one value, got keys and values",
        ),
        ("batch_rows: ", "line 1: stream.batch_rows: expected a value, got nothing"),
        ("fill: []", "line 1: stream.fill: expected at least one value, got an empty list"),
        ("fill: {a: [1]}", "line 1: stream.fill.a: expected a value, got a list"),
        ("fill: {a: 1, a: 2}", "line 1: stream.fill.a: expected each key once, got it in line 1"),
        ("batch_rows: no", "profile.yaml: stream: --batch_rows: expected auto or a whole number"),
        ("keys: ", "line 1: stream.keys: expected a value, got nothing"),
    ],
)
def test_a_wrong_flag_of_the_tested_command(problems_of, section, expected):
    text = f"stream: {{brokers: h:1, model: m, {section}}}\nrecords: topic:t\n"
    assert any(problem.startswith(expected) for problem in problems_of(text)), problems_of(text)


def test_a_missing_flag_of_the_tested_command(problems_of):
    assert problems_of("stream: {brokers: h:1}\nrecords: topic:t") == [
        "profile.yaml: stream: --model is required",
        "profile.yaml: stream: --keys is required",
    ]


@pytest.mark.parametrize("mode", SET_BY_TEST)
def test_flags_that_the_load_test_sets_exist_and_are_refused_with_the_reason(mode, problems_of):
    assert {f"--{name}" for name in SET_BY_TEST[mode]} <= make_parser(mode, whole=True).flags
    for name, reason in SET_BY_TEST[mode].items():
        (problem,) = problems_of(
            (STREAM if mode == "stream" else BATCH).replace("{", f"{{{name}: x, ")
        )
        assert problem == f"line 1: {mode}.{name}: the load test sets it; leave it out: {reason}"
        with pytest.raises(BadOptions, match=f"--{name}: the load test sets it; leave it out: "):
            read("--records=topic:t", mode, "--model=m", "--keys=id", f"--{name}=x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "profile.yaml: expected keys, got an empty file"),
        ("# nothing", "profile.yaml: expected keys, got an empty file"),
        ("a: [", "profile.yaml: expected a YAML file: expected the node content, but found"),
        ("a: 1\n---\nb: 2", "profile.yaml: expected a YAML file: but found another document"),
        ("[" * 5000, "profile.yaml: expected a YAML file, got one that is nested too deep"),
        ("a: *b", "profile.yaml: expected a YAML file: found undefined alias 'b'"),
        ("\0", "profile.yaml: expected a YAML file: special characters are not allowed"),
        ("x: " + "y" * 1_000_000, "profile.yaml: expected at most 1,000,000 bytes, got 1,000,003"),
    ],
)
def test_a_file_that_is_no_profile(problems_of, text, expected):
    (problem,) = problems_of(text)
    assert problem.startswith(expected)


def test_a_profile_that_is_a_list_a_folder_or_absent(problems_of, tmp_path):
    assert problems_of("[1]")[0] == "profile.yaml: expected keys and values, got a list"
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "no", "No such file")):
        with pytest.raises(BadOptions, match=f"expected a readable YAML file: {reason}"):
            read(f"--profile={path}")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(BadOptions, match="expected UTF-8 text, got other bytes at 3"):
        read(f"--profile={tmp_path / 'latin.yaml'}")


def test_the_command_is_in_the_profile_or_on_the_command_line(problems_of):
    assert problems_of("records: topic:t")[0] == (
        "profile.yaml: expected `stream` or `batch` with the flags of that command, got neither"
    )
    assert "got both" in problems_of(STREAM + BATCH)[0]
    assert "got both; leave out `batch …`" in problems_of(STREAM, "batch", "--input=i")[0]
    with pytest.raises(BadOptions, match="expected `stream` or `batch` and its flags, got 'strem'"):
        read("--records=topic:t", "strem", "--brokers=h:1")


def test_records_must_be_there_and_of_a_known_kind(problems_of, tmp_path):
    (tmp_path / "rows.csv").write_text("a\n")
    for given_, shown in (
        ("no.parquet", "'no.parquet', which does not exist"),
        ("rows.csv", "'rows.csv'"),
        ("topic:", "'topic:', which does not exist"),
    ):
        (problem,) = problems_of(STREAM.replace("topic:old", f"'{given_}'"))
        assert problem == f"line 2: records: {RECORDS}{shown}"
    (problem,) = problems_of(STREAM.partition("records")[0])
    assert problem.startswith("profile.yaml: records: expected what is sent")


def test_everything_that_is_wrong_is_told_at_once(problems_of):
    found = problems_of(
        "stream: {brokers: h:1, topic: t}\nshape: x\nslos: {rate_per_s: 0, a: 1}\nbudget_s: z",
        "--workers=0",
    )
    assert len(found) == 7
    assert any(problem.startswith("--workers, item 1: expected") for problem in found)


def test_a_value_that_may_be_a_secret_is_not_shown_for_an_unknown_key(problems_of):
    assert "s3cret" not in "".join(problems_of(STREAM + "password: s3cret"))


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["quick", "trace", "topic:t", "{workers}", "06:00", "1e400", "-.5", "~"]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=4), st.sampled_from(["rate_per_s", "file", "currency"])),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)
_SECTIONS = st.dictionaries(
    st.sampled_from(["brokers", "model", "keys", "fill", "topic", "runner", "exactly_once", "zz"]),
    _VALUES,
)
_PROFILES = st.dictionaries(
    st.sampled_from([*KEYS.split(", "), "<<", ""]), _VALUES, max_size=6
) | st.fixed_dictionaries({"stream": _SECTIONS, "records": st.just("topic:t"), "slos": _VALUES})


class Tried(NamedTuple):
    """A profile, or its problems."""

    profile: Profile | None
    problems: list[str]


def try_to_read(path):
    try:
        return Tried(read(f"--profile={path}"), [])
    except BadOptions as e:
        return Tried(None, e.problems)


@settings(max_examples=150, deadline=None)
@given(content=_PROFILES)
def test_any_profile_is_read_or_refused_with_its_place(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    found, problems = try_to_read(path)
    assert found is None or found.mode in content
    assert all("yaml" in problem for problem in problems)


_CHARACTERS = ":{}[]-&*!|>'\"%@ \n#ab,"


@settings(max_examples=150, deadline=None)
@given(content=st.one_of(st.binary(max_size=60), st.text(_CHARACTERS, max_size=40)))
def test_any_bytes_are_refused(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert try_to_read(path).problems
