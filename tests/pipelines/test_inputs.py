"""Every kind of input is scored like a direct computation, or refused with a message."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from scoreline.lake.table.log import read_commits
from tests.fakes import expected_scores, make_rows, read_scores, write_file, write_lake
from tests.inputs import (
    FORMATS,
    by_id,
    example_scores,
    flags_of,
    frame,
    save_example_model,
    to_examples,
    write_bytes,
    write_dataset,
    write_rows,
    write_tfrecord,
)
from tests.pipelines.test_bad_input import assert_refused


@pytest.fixture(scope="module")
def example_model(tmp_path_factory):
    return save_example_model(tmp_path_factory.mktemp("model") / "parser")


def assert_scores(output, wanted):
    got = by_id(read_scores(output))
    assert got.keys() == wanted.keys()
    np.testing.assert_allclose([got[i] for i in wanted], list(wanted.values()), rtol=1e-6)


@pytest.mark.parametrize("suffix", FORMATS)
def test_pipeline_equals_a_direct_computation_by_key(score, tmp_path, suffix):
    root, rows = write_dataset(tmp_path / "lake", suffix)

    ended = score("--batch_rows=64", "--keep=s", *flags_of(suffix), input=root)

    assert ended.code == 0, ended
    assert "rows in       900" in ended.out
    scores = read_scores(tmp_path / "scores")
    assert scores.num_rows == 900
    assert_scores(tmp_path / "scores", expected_scores(rows))
    assert sorted(set(scores["date"].to_pylist())) == ["2024-01-01", "2024-01-02", "2024-01-03"]
    texts = [s.decode() if isinstance(s, bytes) else s for s in scores["s"].to_pylist()]
    assert dict(zip(scores["id"].to_pylist(), texts, strict=True)) == by_id(rows, "s")
    assert "Nothing is left to do" in score("--keep=s", *flags_of(suffix), input=root).out


@pytest.mark.parametrize("suffix", ["tfrecord", "csv.gz", "jsonl"])
def test_plan_prints_the_inferred_schema_and_does_not_count_rows(score, tmp_path, suffix):
    root, _ = write_dataset(tmp_path / "lake", suffix, days=1)
    ended = score("--check", *flags_of(suffix), input=root)
    assert ended.code == 0, ended
    assert "counted as they are read, in 2 shards" in ended.out
    assert f"{suffix.removesuffix('.gz')}, with the schema inferred from the first files:" in (
        ended.out
    )
    kind = "float" if suffix == "tfrecord" else "double"
    assert f"x {kind}\n" in "\n".join(line.strip() for line in ended.out.splitlines()) + "\n"


def test_given_schema_is_read_as_it_says_and_is_part_of_the_run(score, tmp_path):
    root, rows = write_dataset(tmp_path / "lake", "csv")
    schema = tmp_path / "schema.json"
    schema.write_text('{"id": "string", "x": "float32", "n": "int64", "s": "string"}')
    ended = score(input=root, schema=schema)
    assert ended.code == 0, ended
    wanted = {str(i): value for i, value in expected_scores(rows).items()}
    assert_scores(tmp_path / "scores", wanted)
    assert "Nothing is left to do" in score(input=root, schema=schema).out
    schema.write_text('{"id": "string", "x": "float32", "n": "int32", "s": "string"}')
    assert "3 of them were scored with another" in score(input=root, schema=schema).out
    assert "3 committed" in score("--reprocess=all", input=root, schema=schema).out


def test_given_schema_of_features(score, tmp_path):
    root, rows = write_dataset(tmp_path / "lake", "tfrecord")
    schema = tmp_path / "schema.pbtxt"
    text = """
        feature { name: "id" type: INT shape { dim { size: 1 } } }
        feature { name: "n" type: INT value_count { min: 1 max: 1 } }
        feature { name: "x" type: FLOAT shape { } }
        feature { name: "s" type: BYTES }
    """
    schema.write_text(text)
    ended = score(input=root, schema=schema)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", expected_scores(rows))
    schema.write_text(text.replace("type: BYTES", ""))
    assert_refused(
        score(input=root, schema=schema),
        "--schema",
        "feature 's': expected type INT, FLOAT or BYTES, got TYPE_UNKNOWN",
    )


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        ("parquet", "{}", "Parquet files say their own schema. Leave the option out"),
        ("csv", "{", 'expected JSON such as {"id": "int64"'),
        ("csv", '["id"]', "expected an object of columns and types"),
        ("jsonl", '{"id": "integer"}', "column 'id': expected a type such as int64"),
        ("tfrecord", "fixture", "expected a tensorflow-metadata Schema in text format"),
        ("tfrecord", "", "expected a tensorflow-metadata Schema with features, got none"),
    ],
)
def test_wrong_schema_is_refused(score, tmp_path, suffix, text, message):
    root, _ = write_dataset(tmp_path / "lake", suffix, days=1)
    (tmp_path / "schema").write_text(text)
    assert_refused(score(input=root, schema=tmp_path / "schema"), "--schema", message)


def test_schema_file_that_is_not_there_is_refused(score, tmp_path):
    assert_refused(score(schema=tmp_path / "no"), "--schema: expected a file, got")


def flip_middle(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))


def cut(path):
    path.write_bytes(path.read_bytes()[:-25])


def spoil_value(path):
    rows = path.read_bytes().split(b"\n")
    rows[100] = rows[100].replace(b"0.", b"zero.", 1)
    path.write_bytes(b"\n".join(rows))


@pytest.mark.parametrize(
    ("suffix", "spoil", "message"),
    [
        ("tfrecord", flip_middle, "1.tfrecord cannot be read: the checksum of "),
        ("tfrecord", cut, "1.tfrecord cannot be read: it ends within the record of "),
        ("tfrecord.gz", cut, "1.tfrecord.gz cannot be read: after byte "),
        ("csv", spoil_value, "1.csv cannot be read: row 101, column 'x': expected double"),
        ("csv", cut, "1.csv cannot be read: "),
        ("csv.gz", cut, "1.csv.gz cannot be read: its gzip data is damaged, cut off"),
        ("csv.gz", lambda path: path.write_bytes(b"id,x"), "1.csv.gz cannot be read: its gzip"),
        ("csv", lambda path: path.write_bytes(b"\0"), "1.csv cannot be read: expected UTF-8 text"),
        ("jsonl", spoil_value, "1.jsonl cannot be read: line 101: expected an object in JSON"),
        ("jsonl", cut, "1.jsonl cannot be read: line 150: expected an object in JSON"),
        ("json.gz", cut, "1.json.gz cannot be read: its gzip data is damaged, cut off"),
        ("jsonl", lambda path: path.write_bytes(b"[1]"), "expected JSON Lines, an object in each"),
    ],
)
def test_damaged_file_fails_its_partition_and_the_others_publish(
    score, tmp_path, suffix, spoil, message
):
    root, rows = write_dataset(tmp_path / "lake", suffix)
    path = tmp_path / "lake" / "date=2024-01-02" / f"1.{suffix}"
    spoil(path)

    ended = score(*flags_of(suffix), input=root)

    assert ended.code == 1, ended
    assert "2 committed, 1 NOT published" in ended.out
    assert f"date=2024-01-02 failed: file {path.parent}/" in ended.out
    assert message in ended.out
    wanted = {i: s for i, s in expected_scores(rows).items() if not 300 <= i < 600}
    assert_scores(tmp_path / "scores", wanted)


def test_damaged_first_file_does_not_keep_the_schema_from_being_inferred(score, tmp_path):
    for suffix in ("tfrecord", "csv", "jsonl"):
        root, _ = write_dataset(tmp_path / suffix, suffix)
        (tmp_path / suffix / "date=2024-01-01" / f"0.{suffix}").write_bytes(b"\x00\xff damaged")
        ended = score(*flags_of(suffix), input=root, output=tmp_path / f"scores {suffix}")
        assert ended.code == 1, ended
        assert "2 committed, 1 NOT published" in ended.out


def test_file_that_changes_after_planning_fails_its_partition(score, tmp_path, monkeypatch):
    root, _ = write_dataset(tmp_path / "lake", "csv", days=2)
    from scoreline.pipelines import score_batch

    real = score_batch.create_table

    def change_then_create(*args):
        write_rows(tmp_path / "lake", "date=2024-01-02", "0", make_rows(0, 7), "csv")
        real(*args)

    monkeypatch.setattr(score_batch, "create_table", change_then_create)
    ended = score(*flags_of("csv"), input=root)
    assert ended.code == 1
    assert "0.csv changed since the run was planned: expected" in ended.out
    assert read_scores(tmp_path / "scores").num_rows == 300


def test_mixed_formats_are_refused(score, tmp_path):
    root = write_lake(tmp_path / "lake", days=1)
    write_rows(tmp_path / "lake", "date=2024-01-02", "2", make_rows(0, 3), "csv")
    assert_refused(score(input=root), "--input: expected files of one format, got ")


def test_records_that_are_no_examples_are_refused_before_the_first_row(score, tmp_path):
    write_tfrecord(tmp_path / "lake" / "date=1" / "0.tfrecord", [b"some message"])
    ended = score("--fill=z=1", input=tmp_path / "lake")
    assert_refused(
        ended,
        "2 things are wrong:",
        "--input: expected a TFRecord of tf.Examples, got another kind",
        "--fill z: signature 'serving_default' has no input 'z'",
    )
    assert not (tmp_path / "scores").exists()


def test_null_costs_its_row_and_names_the_record(score, tmp_path):
    rows = make_rows(0, 300)
    x = rows["x"].to_pylist()
    x[7] = None
    rows = rows.set_column(1, "x", pa.array(x, pa.float32()))
    for suffix in ("tfrecord", "csv", "jsonl"):
        write_rows(tmp_path / suffix, "date=1", "0", rows, suffix)
        output = tmp_path / f"scores {suffix}"
        ended = score(*flags_of(suffix), input=tmp_path / suffix, output=output)
        assert ended.code == 3, ended
        letters = next((tmp_path / f"scores {suffix}_dead_letters" / "date=1").glob("*.parquet"))
        (letter,) = pa.parquet.read_table(letters, partitioning=None).to_pylist()
        assert letter["id"] == letter["_file_row"] == 7
        assert letter["_file"].endswith(f"date=1/0.{suffix}")


def test_records_go_straight_to_a_model_that_parses_examples(score, tmp_path, example_model):
    root, rows = write_dataset(tmp_path / "lake", "tfrecord.gz")
    ended = score("--check", input=root, model=example_model)
    assert "examples string [None] ← _example" in ended.out
    ended = score(input=root, model=example_model)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", example_scores(rows))


def test_records_are_decoded_when_an_option_speaks_of_a_feature(score, tmp_path, example_model):
    rows = make_rows(0, 100)
    other = rows.rename_columns(["id", "y", "n", "s", "unread"])
    write_rows(tmp_path / "lake", "date=1", "0", other, "tfrecord")
    ended = score(input=tmp_path / "lake", model=example_model)
    assert_refused(ended, "wants input 'x' as float32 [None]; the table has no column 'x'")
    ended = score("--columns=x=y", input=tmp_path / "lake", model=example_model)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", example_scores(rows))


def test_parquet_may_hold_serialized_examples(score, tmp_path, example_model):
    rows = make_rows(0, 100)
    held = pa.table({"id": rows["id"], "payload": pa.array(to_examples(rows))})
    write_file(tmp_path / "lake", "date=1", "0.parquet", held)
    given = {"input": tmp_path / "lake", "model": example_model}
    ended = score("--columns=examples=payload", **given)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", example_scores(rows))
    ended = score("--reprocess=all", "--columns=examples=payload", "--fill=x=1", **given)
    assert_refused(ended, "--columns examples=payload gives whole tf.Examples", "got --fill x")


def dated(rows, date):
    return rows.append_column("date", pa.array([date] * rows.num_rows).cast("date32"))


def test_delta_table_is_read_at_one_version_that_is_recorded(score, tmp_path):
    root, _ = write_dataset(tmp_path / "lake", "delta", files=1)
    stray = write_file(tmp_path / "lake", "date=2024-01-01", "stray.parquet", make_rows(9000, 5))
    overwritten = make_rows(300, 50).append_column(
        "date", pa.array(["2024-01-02"] * 50).cast("date32")
    )
    write_deltalake(root, overwritten, mode="overwrite", predicate="date = '2024-01-02'")
    ended = score("--check", "--partitions=date=2024-01-02..2024-01-03", input=root)
    assert "Delta table, version 3" in ended.out
    assert "350 in 2 shards" in ended.out
    ended = score(input=root)
    assert ended.code == 0, ended
    assert stray.exists()
    scores = by_id(read_scores(tmp_path / "scores"))
    assert sorted(scores) == [*range(350), *range(600, 900)]
    commits = read_commits(DeltaTable(str(tmp_path / "scores")))
    assert {c.get("input_version") for c in commits if "partition" in c} == {"3"}
    assert "Nothing is left to do" in score(input=root).out
    appended = make_rows(5000, 10).append_column(
        "date", pa.array(["2024-01-03"] * 10).cast("date32")
    )
    write_deltalake(root, appended, mode="append")
    assert "1 committed" in score("--reprocess=stale", input=root).out


def test_delta_table_while_it_is_written_to_keeps_the_version_that_was_planned(
    score, tmp_path, monkeypatch
):
    root, _ = write_dataset(tmp_path / "lake", "delta", days=1, files=1)
    from scoreline.pipelines import score_batch

    real = score_batch.create_table

    def append_then_create(*args):
        more = make_rows(300, 10).append_column(
            "date", pa.array(["2024-01-01"] * 10).cast("date32")
        )
        write_deltalake(root, more, mode="append")
        real(*args)

    monkeypatch.setattr(score_batch, "create_table", append_then_create)
    assert score(input=root).code == 0
    assert sorted(by_id(read_scores(tmp_path / "scores"))) == list(range(300))
    monkeypatch.undo()


def test_partition_columns_feed_inputs_and_are_keys(score, tmp_path):
    wanted = {}
    for day, word in ((1, "a"), (12, "b")):
        rows = make_rows(day * 1000, 50)
        write_file(
            tmp_path / "lake", f"n={day:02d}/s={word}", "0.parquet", rows.select(["id", "x"])
        )
        held = rows.set_column(2, "n", pa.array([day] * 50)).set_column(
            3, "s", pa.array([word] * 50)
        )
        wanted |= expected_scores(held)

    ended = score(input=tmp_path / "lake", keys="n,id")

    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", wanted)
    assert read_scores(tmp_path / "scores").schema.names == [
        "id",
        "pair",
        "score",
        "model_digest",
        "n",
        "s",
    ]
    ended = score("--reprocess=all", input=tmp_path / "lake", keys="n,s")
    assert_refused(
        ended, "--keys: expected a column of the files, got only partition columns (n, s)"
    )


@pytest.mark.parametrize("suffix", ["tfrecord", "csv", "jsonl", "parquet"])
def test_partition_columns_feed_inputs_in_every_format(score, tmp_path, suffix):
    """The value is the folder's, also where files have a column of that name with others."""
    tables = [make_rows(first, 50) for first in (0, 50, 100)]
    write_rows(tmp_path / "lake", "n=07", "0", tables[0].drop_columns(["n"]), suffix)
    write_rows(tmp_path / "lake", "n=07", "1", tables[1], suffix)
    write_rows(tmp_path / "lake", "n=12", "0", tables[2], suffix)
    ended = score(*flags_of(suffix), "--keep=s", keys="n,id", input=tmp_path / "lake")
    assert ended.code == 0, ended
    numbers = (7, 7, 12)
    held = [t.set_column(2, "n", pa.array([n] * 50)) for t, n in zip(tables, numbers, strict=True)]
    assert_scores(tmp_path / "scores", expected_scores(pa.concat_tables(held)))
    assert set(read_scores(tmp_path / "scores")["n"].to_pylist()) == {"07", "12"}


def test_partition_columns_count_for_models_that_parse_examples(score, tmp_path, example_model):
    """The records would tell the model another value than that of the folder."""
    rows = make_rows(0, 50)
    write_rows(tmp_path / "lake", "n=7", "0", rows, "tfrecord")
    ended = score(input=tmp_path / "lake", model=example_model)
    assert ended.code == 0, ended
    held = rows.set_column(2, "n", pa.array([7] * 50))
    assert_scores(tmp_path / "scores", example_scores(held))


def test_partition_value_that_does_not_parse_is_refused_and_named(score, tmp_path):
    for value in ("7", "0x7", "x", "1.5", "9223372036854775808"):
        rows = make_rows(0, 5).drop_columns(["n"])
        write_file(tmp_path / "lake", f"n={value}", "0.parquet", rows)
    ended = score(input=tmp_path / "lake")
    assert_refused(
        ended,
        "partition column 'n' feeds input 'n' as int64 [None]; got n=0x7 (expected a int64, got "
        "'0x7'), n=1.5 (",
        "n=9223372036854775808 (",
        "n=x (",
        "Leave these partitions out with --partitions",
    )
    assert "n=7 (" not in ended.err
    assert score("--partitions=n=7", input=tmp_path / "lake").code == 0


def test_column_that_only_some_partitions_have_is_filled_when_allowed(score, tmp_path):
    root = write_lake(tmp_path / "lake", days=2, files=1)
    rows = make_rows(1000, 100)
    narrow = rows.set_column(2, "n", rows["n"].cast(pa.int16()))
    write_file(tmp_path / "lake", "date=2024-01-03", "0.parquet", narrow.drop_columns(["x"]))
    write_file(tmp_path / "lake", "date=2024-01-03", "1.parquet", make_rows(2000, 100))
    ended = score(input=root)
    assert_refused(
        ended,
        "the table has no column 'x'.",
        "(in date=2024-01-03)",
        "Others have it: give a value for where it is missing with --allow_missing x=VALUE.",
    )

    ended = score("--allow_missing=x=0.5", "--keep=x", input=root)

    assert ended.code == 0, ended
    scores = read_scores(tmp_path / "scores")
    assert str(scores.schema.field("x").type) == "float"
    kept = by_id(scores, "x")
    assert {kept[i] for i in range(1000, 1100)} == {0.5}
    half = rows.set_column(1, "x", pa.array([0.5] * 100, pa.float32()))
    got = by_id(scores)
    wanted = expected_scores(pa.concat_tables([half, make_rows(2000, 100), make_rows(0, 300)]))
    np.testing.assert_allclose([got[i] for i in wanted], list(wanted.values()), rtol=1e-6)
    # Another value is other work, but only for runs that use the option.
    assert (
        "3 committed" in score("--reprocess=all", "--allow_missing=x=1", "--keep=x", input=root).out
    )


def test_column_that_no_partition_has_is_filled_as_the_input_wants_it(score, tmp_path):
    write_file(tmp_path / "lake", "date=1", "0.parquet", make_rows(0, 9).drop_columns(["s", "n"]))
    ended = score("--allow_missing=s=a=b", "--allow_missing=n=2", input=tmp_path / "lake")
    assert ended.code == 0, ended
    rows = make_rows(0, 9)
    rows = rows.set_column(2, "n", pa.array([2] * 9)).set_column(3, "s", pa.array(["a=b"] * 9))
    assert_scores(tmp_path / "scores", expected_scores(rows))


def test_csv_file_that_lacks_a_column_is_filled(score, tmp_path):
    rows = make_rows(0, 20)
    write_rows(tmp_path / "lake", "date=1", "0", rows, "csv")
    write_rows(tmp_path / "lake", "date=2", "0", make_rows(20, 20).drop_columns(["n"]), "csv")
    assert_refused(score(*flags_of("csv"), input=tmp_path / "lake"), "(in date=2)")
    ended = score(*flags_of("csv"), "--allow_missing=n=4", input=tmp_path / "lake")
    assert ended.code == 0, ended
    other = make_rows(20, 20).set_column(2, "n", pa.array([4] * 20))
    assert_scores(tmp_path / "scores", expected_scores(pa.concat_tables([rows, other])))


def test_wrong_allow_missing_is_refused(score):
    ended = score(
        "--allow_missing=date=1",
        "--allow_missing=other=1",
        "--allow_missing=n=one",
        "--allow_missing=gone=1",
        "--keep=gone",
    )
    assert_refused(
        ended,
        "--allow_missing date: it is a partition column, which is never missing",
        "--allow_missing other: no input, key or kept column reads a column 'other'",
        "--allow_missing n=one: expected a int64, got 'one'",
        "--allow_missing gone: no partition has the column and no input takes it",
    )
    assert_refused(score("--allow_missing=n"), "--allow_missing: expected C=VALUE, got 'n'")


def test_run_id_of_a_plain_run_is_the_one_it_always_had(tmp_path):
    from scoreline.lake.files.partitions import Listing
    from scoreline.pipelines.options.batch import read_batch
    from scoreline.pipelines.options.commands import parse_flags
    from scoreline.pipelines.options.problems import Problems
    from scoreline.pipelines.plan.dataset import Dataset
    from scoreline.pipelines.plan.states import _configuration

    flags = ["--input=i", "--output=o", "--model=m", "--keys=id"]
    settings = read_batch(parse_flags("batch", flags, Problems()).given, Problems())
    dataset = Dataset(settings=settings.dataset, listing=Listing([], []))
    assert list(_configuration(settings, dataset, "sha256:0")) == [
        "format",
        "model_digest",
        "signature",
        "keys",
        "keep",
        "columns",
        "fills",
        "outputs",
    ]


@pytest.mark.slow
def test_worker_processes_read_other_formats_too(tmp_path, model):
    from tests.fakes import run_command

    root, rows = write_dataset(tmp_path / "lake", "tfrecord", days=2)
    ended = run_command(
        "scoreline",
        "batch",
        f"--input={root}",
        f"--model={model}",
        "--keys=id",
        f"--output={tmp_path / 'scores'}",
        "--workers=2",
        "--direct_running_mode=multi_processing",
    )
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", expected_scores(rows))


@pytest.mark.parametrize("suffix", ["tfrecord", "csv", "jsonl"])
def test_files_without_rows_say_that_a_schema_is_needed(score, tmp_path, suffix):
    write_bytes(tmp_path / "lake" / "date=1" / f"0.{suffix}", b"id\n" if suffix == "csv" else b"")
    ended = score(input=tmp_path / "lake")
    assert ended.code == 2, ended
    if suffix != "csv":
        assert "--input: expected rows to infer a schema from, but the first files of" in ended.err


def test_empty_records_files_are_published_as_empty_with_a_schema(score, tmp_path):
    root, _ = write_dataset(tmp_path / "lake", "jsonl", days=2)
    write_bytes(tmp_path / "lake" / "date=2024-01-03" / "0.jsonl", b"")
    (tmp_path / "lake" / "date=2024-01-04").mkdir()
    ended = score(*flags_of("jsonl"), input=root)
    assert ended.code == 0, ended
    assert "4 committed" in ended.out
    assert read_scores(tmp_path / "scores").num_rows == 600


def test_progress_counts_shards_where_rows_are_not_known(tmp_path, model):
    from scoreline.pipelines.report.progress import StagedShards
    from scoreline.pipelines.score_batch import prepare

    root, _ = write_dataset(tmp_path / "lake", "tfrecord", days=2)
    plan = prepare(
        [f"--input={root}", f"--model={model}", "--keys=id", f"--output={tmp_path / 'scores'}"]
    ).found.plan
    seen = StagedShards(plan.shards, plan.stage.output)
    assert (seen.total, seen.unit, seen.count()) == (4, "shards", 0)
    shard = plan.shards[1]
    name = f"part-{shard.number:05d}-{shard.run_id}-00000000.parquet"
    write_bytes(tmp_path / "scores" / shard.partition / name, b"")
    assert seen.count() == 1


def test_keys_that_are_partition_columns_do_not_count_as_duplicates(score, tmp_path):
    for day in (1, 2):
        write_file(tmp_path / "lake", f"day={day}", "0.parquet", make_rows(0, 40))
    repeated = pa.concat_tables([make_rows(0, 40), make_rows(0, 5)])
    write_file(tmp_path / "lake", "day=3", "0.parquet", repeated)
    ended = score(keys="day,id", input=tmp_path / "lake")
    assert ended.code == 0, ended
    assert "duplicate keys  5 rows repeat the key of another" in ended.out


def test_text_column_that_is_missing_in_one_file_of_a_partition(score, tmp_path):
    rows = [make_rows(0, 30), make_rows(30, 30).drop_columns(["s"]), make_rows(60, 30)]
    for number, table in enumerate(rows):
        write_file(tmp_path / "lake", "date=1", f"{number}.parquet", table)
    ended = score("--allow_missing=s=b", "--keep=s", input=tmp_path / "lake")
    assert ended.code == 0, ended
    filled = make_rows(30, 30).set_column(3, "s", pa.array(["b"] * 30))
    whole = pa.concat_tables([rows[0], filled, rows[2]])
    assert_scores(tmp_path / "scores", expected_scores(whole))
    assert by_id(read_scores(tmp_path / "scores"), "s") == by_id(whole, "s")


def test_fields_of_json_objects_feed_inputs(score, tmp_path):
    rows = make_rows(0, 40)
    lines = [
        json.dumps({"id": r["id"], "f": {"x": r["x"], "n": r["n"]}, "s": r["s"]}).encode()
        for r in rows.to_pylist()
    ]
    write_bytes(tmp_path / "lake" / "date=1" / "0.jsonl", b"\n".join(lines))
    ended = score("--columns=x=float32(f.x),n=f.n", input=tmp_path / "lake")
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", expected_scores(rows))


def test_delta_partitions_that_are_not_meant_are_not_looked_at(score, tmp_path):
    root, rows = write_dataset(tmp_path / "lake", "delta", files=1)
    for file in (tmp_path / "lake" / "date=2024-01-01").iterdir():
        file.unlink()
    ended = score("--partitions=date=2024-01-02..2024-01-03", input=root)
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", expected_scores(rows.slice(300)))
    ended = score(input=root)
    assert ended.code == 1
    assert "date=2024-01-01 failed: file" in ended.err + ended.out
    assert "cannot be read: " in ended.err + ended.out


def test_delta_table_whose_older_files_lack_a_column(score, tmp_path):
    root = str(tmp_path / "lake")
    old, new = make_rows(0, 20), make_rows(20, 20)
    older = old.drop_columns(["n", "unread"])
    write_deltalake(root, dated(older, "2024-01-01"), partition_by=["date"])
    write_deltalake(root, dated(new, "2024-01-02"), mode="append", schema_mode="merge")
    ended = score(input=root)
    assert_refused(ended, "the table has no column 'n'", "(in date=2024-01-01). Others have it")
    allowed = ("--allow_missing=n=1", "--allow_missing=unread=null", "--keep=unread")
    # The first partition alone has no file with the kept column: its type is Delta's.
    for spec in ("2024-01-01", "2024-01-01..2024-01-02"):
        ended = score(*allowed, f"--partitions=date={spec}", input=root)
        assert ended.code == 0, ended
    filled = old.set_column(2, "n", pa.array([1] * 20))
    assert_scores(tmp_path / "scores", expected_scores(pa.concat_tables([filled, new])))
    kept = by_id(read_scores(tmp_path / "scores"), "unread")
    assert {kept[i] for i in range(20)} == {None}
    assert {kept[i] for i in range(20, 40)} == {"…"}


def test_delta_partition_columns_feed_inputs(score, tmp_path):
    rows = pa.concat_tables([make_rows(0, 30), make_rows(30, 30)])
    write_deltalake(str(tmp_path / "lake"), rows, partition_by=["n"])
    ended = score(input=tmp_path / "lake")
    assert ended.code == 0, ended
    assert_scores(tmp_path / "scores", expected_scores(rows))
    assert str(read_scores(tmp_path / "scores").schema.field("n").type) == "string"


def test_delta_table_without_partitions_is_refused(score, tmp_path):
    write_deltalake(str(tmp_path / "lake"), make_rows(0, 3))
    ended = score(input=tmp_path / "lake")
    assert_refused(ended, "--input: ", "expected a Delta table with partition columns, got one")


def test_record_that_breaks_the_inferred_schema_names_file_and_record(score, tmp_path):
    root, rows = write_dataset(tmp_path / "lake", "tfrecord")
    two = make_rows(0, 1).set_column(1, "x", pa.array([[1.0, 2.0]], pa.list_(pa.float32())))
    path = tmp_path / "lake" / "date=2024-01-03" / "1.tfrecord"
    path.write_bytes(path.read_bytes() + frame(*to_examples(two)))
    ended = score(input=root)
    assert ended.code == 1, ended
    assert f"file {path} cannot be read: record 150 at byte " in ended.out
    assert "has 2 values of feature 'x'; expected exactly one" in ended.out
    assert_scores(tmp_path / "scores", expected_scores(rows.slice(0, 600)))


def test_records_go_straight_through_with_a_schema_and_damaged_ones_are_named(
    score, tmp_path, example_model
):
    root, rows = write_dataset(tmp_path / "lake", "tfrecord")
    schema = tmp_path / "schema.pbtxt"
    schema.write_text(
        'feature { name: "id" type: INT shape { } } feature { name: "n" type: INT } '
        'feature { name: "x" type: FLOAT }'
    )
    flip_middle(tmp_path / "lake" / "date=2024-01-01" / "0.tfrecord")
    ended = score(input=root, model=example_model, schema=schema)
    assert ended.code == 1, ended
    assert "0.tfrecord cannot be read: the checksum of " in ended.out
    assert_scores(tmp_path / "scores", example_scores(rows.slice(300)))
    schema.write_text('feature { name: "id" type: INT shape { } } feature { name: "x" type: INT }')
    ended = score(input=root, model=example_model, schema=schema)
    assert_refused(
        ended, "has no column 'n'", "the table has column 'x' as large_list<item: int64>"
    )


def test_dead_letters_hold_constants_too(score, tmp_path):
    x = pa.array([None, *[1.0] * 29], pa.float32())
    rows = make_rows(0, 30).set_column(1, "x", x).drop_columns(["s"])
    write_file(tmp_path / "lake", "s=b", "0.parquet", rows)
    ended = score("--max_dead_letter_ratio=0.5", input=tmp_path / "lake")
    assert ended.code == 3, ended
    (path,) = (tmp_path / "scores_dead_letters" / "s=b").glob("*.parquet")
    (letter,) = pa.parquet.read_table(path, partitioning=None).to_pylist()
    assert (letter["id"], letter["s"]) == (0, "b")
