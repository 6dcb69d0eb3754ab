"""A file that is no profile, a profile with several problems, and any content at all."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.options.problems import BadOptions
from tests.pipelines.load_test.profiles import KEYS, STREAM, read

RECORDS = "expected a file or folder of .parquet, .jsonl or .tfrecord files, or topic:NAME, got "


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
