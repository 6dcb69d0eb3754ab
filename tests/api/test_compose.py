"""A job of a user's own, composed of public steps, keeps what the commands promise."""

from __future__ import annotations

import ast
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from deltalake import DeltaTable
from pyarrow import fs

import scoreline
from scoreline.lake.files.data_file import CorruptFile
from scoreline.lake.files.read import read_shard
from scoreline.lake.table.letters import find_letter_files
from scoreline.lake.table.log import read_commits
from scoreline.transforms.partitions import Wanted, find_work
from tests.fakes import expected_scores, make_rows, read_lake, write_file
from tests.inputs import write_bytes

SCHEMA = pa.schema([("id", pa.int64()), ("score", pa.float32()), ("model_digest", pa.string())])
KEYS = ["id"]


def double(key, batch):
    """A user's own step: x is doubled before it is scored."""
    if batch.num_rows:
        x = pc.multiply(batch["x"], pa.scalar(2.0, pa.float32()))
        batch = batch.set_column(batch.schema.get_field_index("x"), "x", x)
    return key, batch


def run_job(lake, model, table, work=None, step=double, ratio=0.5, **options):
    """Run the job; return what was left out, and outcomes by partition."""
    runner = PipelineOptions(["--runner=FnApiRunner", "--direct_num_workers=1"])
    with beam.Pipeline(options=runner) as pipeline:
        read = scoreline.ReadPartitions(
            lake, columns=["id", "x", "n", "s"], table=table, work=work, **options
        )
        found = pipeline | read
        scored = (
            found.batches
            | "Double" >> beam.MapTuple(step)
            | scoreline.Score(model=model, keys=KEYS, outputs=["score"])
        )
        receipts = scored | scoreline.StageScores(table=table, schema=SCHEMA, keys=KEYS)
        published = (
            (receipts, found.staged)
            | beam.Flatten()
            | scoreline.CommitPartitions(
                table=table,
                keys=KEYS,
                max_dead_letter_ratio=ratio,
                fingerprints=read.fingerprints,
                metadata={"step": "double"},
            )
        )
        (
            published
            | beam.Map(lambda o: [o.partition, o.state, o.rows_in, o.rows_dead])
            | (beam.io.WriteToText(f"{table}-outcomes/out", shard_name_template=""))
        )
    return read


def outcomes_of(table):
    text = Path(f"{table}-outcomes/out").read_text()
    return {line[0]: tuple(line[1:]) for line in map(ast.literal_eval, text.splitlines())}


def scores_of(table):
    rows = scoreline.open_scores(table).to_table().to_pylist()
    scores = {row["id"]: row["score"] for row in rows}
    assert len(scores) == len(rows)
    return scores


def assert_doubled(lake, table, without=()):
    rows = read_lake(lake)
    doubled = rows.set_column(1, "x", pc.multiply(rows["x"], pa.scalar(2.0, pa.float32())))
    wanted = {k: v for k, v in expected_scores(doubled).items() if k not in without}
    got = scores_of(table)
    assert got.keys() == wanted.keys()
    assert all(abs(got[key] - wanted[key]) < 1e-4 for key in wanted)


def test_composed_job_publishes_every_row_once_and_a_second_run_publishes_nothing(
    lake, model, tmp_path
):
    table = str(tmp_path / "scores")
    read = run_job(lake, model, table)
    assert read.committed == []
    assert outcomes_of(table) == {
        f"date=2024-01-0{day}": ("committed", 300, 0) for day in (1, 2, 3)
    }
    assert_doubled(lake, table)
    version = DeltaTable(table).version()
    entry = read_commits(DeltaTable(table), 1)[0]
    assert entry["step"] == "double"
    assert entry["input_fingerprint"] == read.fingerprints[entry["partition"]]

    again = run_job(lake, model, table)
    assert len(again.committed) == 3
    assert outcomes_of(table) == {}
    assert DeltaTable(table).version() == version
    assert_doubled(lake, table)


def test_other_work_replaces_a_partition_only_when_it_is_told_to(lake, model, tmp_path):
    table = str(tmp_path / "scores")
    day = {"partitions": ["date=2024-01-02"]}
    run_job(lake, model, table, work={"step": 1}, **day)
    version = DeltaTable(table).version()
    assert run_job(lake, model, table, work={"step": 2}, **day).committed == ["date=2024-01-02"]
    assert DeltaTable(table).version() == version
    run_job(lake, model, table, work={"step": 2}, step=lambda k, b: (k, b), replace=True, **day)
    rows = read_lake(lake)
    wanted = {k: v for k, v in expected_scores(rows).items() if 300 <= k < 600}
    got = scores_of(table)
    assert got.keys() == wanted.keys()
    assert all(abs(got[key] - wanted[key]) < 1e-4 for key in wanted)


class Stops(RuntimeError):
    pass


def test_job_that_failed_in_the_middle_goes_on_where_it_stopped(lake, model, tmp_path):
    table = str(tmp_path / "scores")

    def fail_on_the_last_day(key, batch):
        if key.shard.partition == "date=2024-01-03":
            raise Stops
        return double(key, batch)

    with pytest.raises(Exception, match="Stops"):
        run_job(lake, model, table, step=fail_on_the_last_day)
    assert not scoreline.open_scores(table).count_rows()

    run_job(lake, model, table)
    assert_doubled(lake, table)


def test_rows_that_fail_are_dead_letters_and_rows_that_a_step_loses_fail_the_partition(
    model, tmp_path
):
    lake, table = tmp_path / "lake", str(tmp_path / "scores")
    rows = make_rows(0, 100)
    x = pa.array([None if i == 5 else v for i, v in enumerate(rows["x"].to_pylist())], pa.float32())
    write_file(lake, "date=1", "0.parquet", rows.set_column(1, "x", x))
    write_file(lake, "date=2", "0.parquet", make_rows(100, 100))

    def lose_one(key, batch):
        is_second = key.shard.partition == "date=2" and batch.num_rows
        return double(key, batch.slice(1) if is_second else batch)

    run_job(str(lake), model, table, step=lose_one)
    found = outcomes_of(table)
    assert found["date=1"] == ("committed", 100, 1)
    assert found["date=2"][0] == "failed"
    assert sorted(scores_of(table)) == [i for i in range(100) if i != 5]
    run_id = DeltaTable(table).file_uris()[0].rsplit("-", 2)[1]
    _, files = find_letter_files(table, "date=1", run_id)
    assert len(files) == 1


def test_score_takes_any_key_and_checks_the_schema_when_a_batch_comes(model):
    batch = make_rows(0, 4).to_batches()[0]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        batches = pipeline | beam.Create([(("user", 7), batch), (None, batch.slice(1, 2))])
        scored = batches | scoreline.Score(model=model, keys=["id"], keep=["s"])
        kept = scored.scores | beam.MapTuple(lambda key, b: (key, b["id"].to_pylist()))
        assert_that(kept, equal_to([(("user", 7), [0, 1, 2, 3]), (None, [1, 2])]))
    with (
        pytest.raises(Exception, match="no column 'key'"),
        beam.Pipeline(runner="FnApiRunner") as pipeline,
    ):
        pipeline | beam.Create([(1, batch)]) | scoreline.Score(model=model, keys=["key"])


def test_score_refuses_what_is_known_to_be_wrong_before_the_job_starts(model, tmp_path):
    batches = beam.Pipeline() | beam.Create([])
    with pytest.raises(ValueError, match=r"fills z: signature .* has no input 'z'"):
        batches | scoreline.Score(model=model, fills={"z": 1})
    with pytest.raises(ValueError, match="the table has no column 'x'"):
        batches | "Other" >> scoreline.Score(model=model, schema=pa.schema([("id", pa.int64())]))
    with pytest.raises(FileNotFoundError, match="model: expected a SavedModel directory"):
        batches | "Missing" >> scoreline.Score(model=tmp_path)


def test_reading_says_all_that_is_wrong_with_a_dataset_before_the_job_starts(lake, tmp_path):
    root = beam.Pipeline()
    with pytest.raises(ValueError, match=r"lack 'y'.*\n.*lack 'z'"):
        root | scoreline.ReadPartitions(lake, columns=["id", "y", "z"])
    with pytest.raises(ValueError, match="got none that matches date=1999-01-01"):
        root | "None" >> scoreline.ReadPartitions(lake, partitions=["date=1999-01-01"])
    with pytest.raises(ValueError, match="partitions date: expected COLUMN=VALUE"):
        root | "Bad" >> scoreline.ReadPartitions(lake, partitions=["date"])
    with pytest.raises(ValueError, match="table: expected a Delta table or nothing"):
        root | "Table" >> scoreline.ReadPartitions(lake, table=lake)
    with pytest.raises(ValueError, match="path: expected a folder of partitions"):
        root | "Nowhere" >> scoreline.ReadPartitions(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("name", "first", "later", "problem"),
    [
        ("0.csv", b"id,x\n7,1\n", b"id,x\n007,1\n", "row 2, column 'id': .* got '007'"),
        ("0.csv", b"id,x\n7,true\n", b"id,x\n7,1\n", "row 2, column 'x': expected bool, got '1'"),
        (
            "0.jsonl",
            b'{"u": {"a": 1}}\n',
            b'{"u": {"a": 1, "b": 2}}\n',
            "column 'u': .* got 'b' too",
        ),
    ],
)
def test_reading_changes_no_value_of_a_later_file(tmp_path, name, first, later, problem):
    for day in range(1, 18):  # the schema is inferred from sixteen of them
        write_bytes(tmp_path / f"date=2024-01-{day:02}" / name, later if day == 17 else first)
    found = find_work(Wanted(str(tmp_path), (), None, None, {}, False, None))
    file_system = fs.LocalFileSystem()
    assert all(list(read_shard(file_system, s, found.dataset)) for s in found.shards[:16])
    with pytest.raises(CorruptFile, match=problem):
        list(read_shard(file_system, found.shards[16], found.dataset))


def test_batches_without_a_table_hold_all_columns_and_the_partition_as_text(lake):
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        columns = ["date", "id"]
        found = pipeline | scoreline.ReadPartitions(
            lake, columns=columns, partitions=["date=2024-01-02..2024-01-03"]
        )
        counted = (
            found.batches
            | beam.MapTuple(lambda _, batch: batch)
            | beam.Filter(lambda batch: batch.num_rows > 0)
            | beam.FlatMap(lambda batch: batch["date"].to_pylist())
            | beam.combiners.Count.PerElement()
        )
        assert_that(counted, equal_to([("2024-01-02", 300), ("2024-01-03", 300)]))


def test_stage_refuses_a_schema_without_its_keys_or_with_types_that_no_table_holds(tmp_path):
    table = str(tmp_path / "scores")
    with pytest.raises(ValueError, match="keys: expected columns of the schema, got key"):
        scoreline.StageScores(table=table, schema=SCHEMA, keys=["key"])
    with pytest.raises(ValueError, match="a Delta table cannot hold uint64"):
        scoreline.StageScores(table=table, schema=pa.schema([("id", pa.uint64())]), keys=["id"])
