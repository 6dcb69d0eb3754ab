"""Every kind of input is scored like a direct computation, or refused with a message."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from tests.fakes import expected_scores, make_rows, read_scores, write_lake
from tests.inputs import (
    FORMATS,
    assert_scores,
    by_id,
    flags_of,
    write_bytes,
    write_dataset,
    write_rows,
    write_tfrecord,
)
from tests.pipelines.test_bad_input import assert_refused


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
