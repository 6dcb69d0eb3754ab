"""Columns that files lack: what was meant, what may be said instead, and never one key for all."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest

from scoreline.lake.files.missing import add_constants
from scoreline.lake.files.partitions import Partition
from scoreline.models.fit import OutputColumn
from scoreline.models.signature import InputColumn, Signature, TensorSpec
from scoreline.models.suggest import find_similar
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.plan.fit import Fit, check_schemas
from scoreline.pipelines.plan.missing import add_constant_fields, choose_constants, find_absent

FULL = pa.schema(
    [("id", pa.int64()), ("x", pa.float32()), ("note", pa.string()), ("tags", pa.list_(pa.int8()))]
)


def fit_of(*, column="x", conversion="", keys=("id",), keep=(), fill=None, partitions=("date",)):
    spec = TensorSpec("x", "float32", (None,))
    source = InputColumn(spec, column, fill, conversion)
    return Fit(
        signature=Signature("s", (spec,), ()),
        inputs=(source,),
        outputs=(),
        keys=keys,
        keep=keep,
        others=partitions,
    )


def without(*names, **renamed):
    fields = [field for field in FULL if field.name not in names]
    return pa.schema([field.with_name(renamed.get(field.name, field.name)) for field in fields])


def problems_of(fit, *schemas):
    problems = Problems()
    check_schemas(fit, {s: [f"date={i}"] for i, s in enumerate(schemas)}, problems)
    return "\n".join(problems)


NESTED = pa.schema([*FULL, ("user", pa.struct([("Country", pa.string())]))])


@pytest.mark.parametrize(
    ("fit", "schema", "message"),
    [
        (fit_of(), without(id="ID"), "--keys: the table has no column 'id'; did you mean 'ID'?"),
        (fit_of(), without(id="ids"), "no column 'id'; did you mean 'ids'?"),
        (fit_of(keys=("Date", "id")), FULL, "no column 'Date'; did you mean 'date'?"),
        (fit_of(keep=("Note",)), FULL, "--keep: the table has no column 'Note'; did you mean 'no"),
        (fit_of(keep=("notes",)), FULL, "no column 'notes'; did you mean 'note'?"),
        (fit_of(keep=("note ",)), FULL, "no column 'note '; did you mean 'note'?"),
        (fit_of(keep=("user.country",)), NESTED, "; did you mean 'user.Country'?"),
        (fit_of(), without(x="X"), "no column 'x'; did you mean 'X'? Name it with --columns 'x=X'"),
        (fit_of(column="X"), FULL, "no column 'X'; did you mean 'x'? Name it with --columns 'x=x'"),
        (
            fit_of(column="X", conversion="float32"),
            FULL,
            "no column 'X'; did you mean 'x'? Name it with --columns 'x=float32(x)'",
        ),
    ],
    ids=[
        "key in capitals",
        "key with a letter more",
        "key that is a partition column",
        "kept in capitals",
        "kept with a letter more",
        "kept with a space",
        "kept field of a struct",
        "input in capitals",
        "input of --columns",
        "input in a conversion",
    ],
)
def test_misspelled_column_is_answered_with_the_one_that_is_meant(fit, schema, message):
    told = problems_of(fit, schema)
    assert message in told, told
    assert "--allow_missing" not in told


@pytest.mark.parametrize(
    ("name", "known"), [("x1", ["x2"]), ("id", ["user"]), ("n", ["s"]), ("id", ["id"])]
)
def test_no_column_is_suggested_that_is_another_one(name, known):
    assert find_similar(name, known) == ""


def test_missing_key_is_never_answered_with_one_value_for_all_rows():
    told = problems_of(fit_of(), FULL, without("id"))
    assert "--keys: the table has no column 'id' (in date=1). Others have it: a key must be" in told
    assert "--allow_missing" not in told
    told = problems_of(fit_of(), FULL, without(id="ID"))
    assert "Others have 'id': write it with one name everywhere." in told
    assert "--allow_missing" not in told


def test_missing_kept_column_may_be_a_null_and_an_input_a_value():
    told = problems_of(fit_of(keep=("note",)), FULL, without("note", "x"))
    assert "missing with --allow_missing note=VALUE or note=null." in told
    assert "missing with --allow_missing x=VALUE." in told


def constants_of(allowed, fit, *schemas, known=None):
    problems = Problems()
    found = choose_constants(
        allowed,
        fit,
        [Partition("date=1", (("date", "1"),))],
        {s: ["date=1"] for s in schemas},
        problems,
        known or pa.schema([]),
    )
    return found, "\n".join(problems)


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        ("null", "note", None),
        ('"null"', "note", "null"),
        ("", "note", ""),
        ("NULL", "note", "NULL"),
        ("null", "tags", None),
    ],
)
def test_allowed_value_is_a_null_or_a_text(text, column, value):
    (constant,), told = constants_of({column: text}, fit_of(keep=(column,)), FULL, without(column))
    assert told == ""
    batch = pa.record_batch({"id": [1, 2]})
    added = add_constants(batch, ["id", column], {column: constant.value_in("date=1")})
    assert added.column(column).null_count == (2 if value is None else 0)
    assert added.column(column).to_pylist() == [value, value]


def test_type_of_a_null_is_that_of_the_tables_if_no_file_has_the_column():
    fit = fit_of(keep=("note",))
    known = pa.schema([("note", pa.large_string())])
    (constant,), told = constants_of({"note": "null"}, fit, without("note"), known=known)
    assert (told, constant.data_type) == ("", pa.large_string())
    _, told = constants_of({"note": "null"}, fit, without("note"))
    assert "no partition has the column and no input takes it, so its type is unknown" in told


@pytest.mark.parametrize(
    ("allowed", "fit", "schemas", "message"),
    [
        ({"id": "7"}, fit_of(), [FULL, without("id")], "id=7: it is a key, and all rows of a file"),
        (
            {"id": "null"},
            fit_of(keys=("id", "note")),
            [FULL, without("id")],
            "id=null: it is a key, and all rows",
        ),
        ({"x": "null"}, fit_of(), [FULL, without("x")], "since input 'x' takes no null. Give one"),
        (
            {"x": "0"},
            fit_of(),
            [FULL, without(x="X")],
            "--allow_missing x: date=1 has 'X' instead. Write it with one name everywhere",
        ),
        ({"Note": "0"}, fit_of(keep=("note",)), [FULL], "'Note'; did you mean 'note'?"),
    ],
    ids=["only key", "null key", "null input", "another name", "misspelled"],
)
def test_value_that_would_be_wrong_in_silence_is_refused(allowed, fit, schemas, message):
    found, told = constants_of(allowed, fit, *schemas)
    assert found == ()
    assert message in told, told


def test_value_that_is_none_of_the_type_is_the_only_problem_of_its_column():
    fit = fit_of(column="date")
    problems = Problems()
    partitions = [Partition(f"date={text}", (("date", text),)) for text in ("1", "1e400")]
    schemas = {without("x"): [p.path for p in partitions]}
    constants = choose_constants({}, fit, partitions, schemas, problems)
    check_schemas(fit, add_constant_fields(schemas, constants), problems)
    (problem,) = problems
    assert "got date=1e400 (expected a float, got '1e400')" in problem


@pytest.mark.parametrize("dtype", ["ragged float32", "sparse float32", "complex64"])
def test_output_that_no_column_holds_is_refused_in_our_words(dtype):
    output = OutputColumn(TensorSpec("r", dtype, (None,)), "r")
    fit = dataclasses.replace(fit_of(keys=()), outputs=(output,))
    with pytest.raises(ValueError, match=f"output 'r': a Delta table cannot hold {dtype}"):
        fit.scores_schema(FULL)


def test_null_may_feed_an_input_that_has_a_fill_and_a_key_among_others_may_have_a_value():
    assert constants_of({"x": "null"}, fit_of(fill=0.0), FULL, without("x"))[1] == ""
    fit = fit_of(keys=("id", "note"))
    assert constants_of({"note": "web"}, fit, FULL, without("note"))[1] == ""


@pytest.mark.parametrize(
    ("fit", "has", "message"),
    [
        (
            fit_of(),
            {"id": "ID"},
            "a column 'id' in the first files, got none; did you mean 'ID'? A",
        ),
        (fit_of(), {"id": "key"}, "a column 'id' in the first files, got none. All its values"),
        (fit_of(keep=("note",)), {"note": "Note"}, "'note' in the first files, got none; did you"),
        (fit_of(), {"x": "X"}, "'x' in the first files, got none; did you mean 'X'? All its"),
        (fit_of(keep=("note",)), {"note": "remark"}, ""),
        (fit_of(), {}, ""),
    ],
    ids=["key in capitals", "another key", "kept", "input", "kept that is rare", "right"],
)
def test_column_of_the_given_schema_that_no_row_has_is_refused(fit, has, message):
    """In JSON Lines and TFRecord all its values were null, with exit code 0."""
    told = find_absent(fit, without(**has), [FULL])
    assert len(told) == (1 if message else 0)
    assert message in "".join(told)
    # A file of CSV that lacks the column is reported by its header.
    assert find_absent(fit, without(**has), [without(*has)]) == []
