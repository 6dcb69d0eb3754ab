from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest

from scoreline.lake.files.missing import Constant
from scoreline.models.signature import InputColumn, Signature, TensorSpec
from scoreline.pipelines.options.kafka_source import SourceSettings
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.plan.fit import Fit
from scoreline.pipelines.plan.missing_keys import find_required, plan_missing

SPECS = (
    TensorSpec("a", "float32", (None, 1)),
    TensorSpec("filled", "float32", (None, 1)),
    TensorSpec("optional", "float32", (None, 1), optional=True),
    TensorSpec("age", "float32", (None, 1)),
)
FIT = Fit(
    signature=Signature("serving_default", SPECS, ()),
    inputs=(
        InputColumn(SPECS[0], "a"),
        InputColumn(SPECS[1], "filled", 7.0),
        InputColumn(SPECS[2], "optional"),
        InputColumn(SPECS[3], "user.age"),
    ),
    outputs=(),
    keys=("id",),
    keep=("note",),
)
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "note": pa.string(),
        "a": pa.float32(),
        "filled": pa.float32(),
        "optional": pa.float32(),
        "user": pa.struct([("age", pa.float32())]),
    }
)
SOURCE = SourceSettings(brokers="h:1", topic="t", group="g")


def plan(source, **missing):
    problems = Problems()
    given = dataclasses.replace(source, allow_missing=missing)
    return plan_missing(given, FIT, SCHEMA, problems), list(map(str, problems))


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("a", "0.5", 0.5),
        ("filled", "null", None),
        ("optional", "null", None),
        ("note", "none", "none"),
        ("note", "null", None),
        ("note", '"null"', "null"),
        ("note", "", ""),
    ],
)
def test_a_value_for_a_key_that_records_may_lack(column, text, value):
    (constant,), problems = plan(SOURCE, **{column: text})
    assert problems == []
    assert constant == Constant(column, SCHEMA.field(column).type, text)
    assert constant.value_in("").as_py() == value


@pytest.mark.parametrize(
    ("column", "text", "problem"),
    [
        ("nte", "x", "no input, key or kept column reads 'nte'; did you mean 'note'?"),
        ("id", "1", "it is a key"),
        ("a", "null", "input 'a' takes no null"),
        ("a", "x", "expected a float, got 'x'"),
        ("a", "1e39", "expected a float, got '1e39'"),
        ("user.age", "1", "expected a key of the record, got one of an object in it"),
    ],
)
def test_a_value_that_cannot_be_given_is_refused(column, text, problem):
    constants, problems = plan(SOURCE, **{column: text})
    assert constants == ()
    assert len(problems) == 1
    assert problems[0].startswith(f"--allow_missing {column}={text}: ")
    assert problem in problems[0]


@pytest.mark.parametrize("data_format", ["avro", "example"])
def test_other_formats_have_their_own_way(data_format):
    source = dataclasses.replace(SOURCE, format=data_format)
    constants, (problem,) = plan(source, a="1")
    assert constants == ()
    assert "--allow_missing: expected --format=json" in problem
    assert find_required(source, FIT) == ()


def test_all_that_is_read_must_be_there_but_for_optional_features():
    assert set(find_required(SOURCE, FIT)) == {"id", "note", "a", "filled", "user.age"}
    given = dataclasses.replace(SOURCE, allow_missing={"note": "null", "a": "1"})
    assert set(find_required(given, FIT)) == {"id", "filled", "user.age"}
