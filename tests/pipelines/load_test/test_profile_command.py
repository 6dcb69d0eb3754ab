"""The tested command in a profile or on the command line, and its wrong flags."""

from __future__ import annotations

import pytest

from scoreline.pipelines.load_test.tested import SET_BY_TEST
from scoreline.pipelines.options.commands import make_parser
from scoreline.pipelines.options.problems import BadOptions
from tests.pipelines.load_test.profiles import BATCH, STREAM, read


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


def test_the_command_is_in_the_profile_or_on_the_command_line(problems_of):
    assert problems_of("records: topic:t")[0] == (
        "profile.yaml: expected `stream` or `batch` with the flags of that command, got neither"
    )
    assert "got both" in problems_of(STREAM + BATCH)[0]
    assert "got both; leave out `batch …`" in problems_of(STREAM, "batch", "--input=i")[0]
    with pytest.raises(BadOptions, match="expected `stream` or `batch` and its flags, got 'strem'"):
        read("--records=topic:t", "strem", "--brokers=h:1")
