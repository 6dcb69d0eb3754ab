"""Partition values that are awkward in paths: every reader finds them, every filter too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

import duckdb
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from scoreline.lake.files.partitions import partition_path
from scoreline.lake.table.history import read_live_partitions
from scoreline.lake.table.layout import find_name_problems, partition_folder
from scoreline.lake.table.rollback import rollback_partition
from scoreline.lake.table.scores import committed_run, create_table, open_scores
from scoreline.lake.table.vacuum import vacuum_table
from scoreline.lake.table.verify import verify_partitions
from tests.lake.table.awkward import AWKWARD_VALUES
from tests.lake.table.test_scores import SCHEMA, commit_partition, spec_of, stage

VALUES = list(AWKWARD_VALUES.values())
PARTITIONS = [partition_path([("p", value)]) for value in VALUES]
# Those that deltalake itself can write: it escapes every character outside ASCII.
SHORT = {value for value in VALUES if len(quote(value, safe="")) < 250}
RUNS = [f"{number + 1:015x}" for number in range(len(VALUES))]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return a table with one row for each value, whose id is the value's position."""
    output = str(tmp_path_factory.mktemp("awkward") / "scores")
    create_table(output, SCHEMA, ["p"])
    opened = DeltaTable(output)
    for number, partition in enumerate(PARTITIONS):
        receipt = stage(output, [number], partition, RUNS[number])
        assert commit_partition([receipt], spec_of(output), opened).state == "committed"
    return output


def read_polars(output):
    return dict(polars.read_delta(output).select("id", "p").iter_rows())


def read_polars_by_arrow(output):
    return dict(polars.read_delta(output, use_pyarrow=True).select("id", "p").iter_rows())


def read_arrow(output):
    return by_id(open_scores(output).to_table())


def read_deltalake(output):
    return by_id(DeltaTable(output).to_pyarrow_table())


def read_pandas(output):
    frame = DeltaTable(output).to_pandas()
    return dict(zip(frame["id"].tolist(), frame["p"].tolist(), strict=True))


def read_duckdb(output):
    scores = open_scores(output)  # noqa: F841  DuckDB finds it by name
    return dict(duckdb.sql("SELECT id, p FROM scores").fetchall())


def read_duckdb_by_path(output):
    files = DeltaTable(output).file_uris()
    read = "SELECT id, p FROM read_parquet(?, hive_partitioning=true, hive_types={'p': VARCHAR})"
    return dict(duckdb.execute(read, [files]).fetchall())


def by_id(rows):
    return dict(zip(rows["id"].to_pylist(), rows["p"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    "read",
    [
        read_polars,
        read_polars_by_arrow,
        read_arrow,
        read_deltalake,
        read_pandas,
        read_duckdb,
        read_duckdb_by_path,
    ],
)
def test_every_reader_finds_the_values(table, read):
    found = read(table)
    wrong = {value: found.get(number) for number, value in enumerate(VALUES)}
    assert {value: got for value, got in wrong.items() if got != value} == {}
    assert len(found) == len(VALUES)


def find_by_polars(output):
    rows = polars.scan_delta(output)
    return lambda value: rows.filter(polars.col("p") == value).collect()["id"].to_list()


def find_by_arrow(output):
    scores = open_scores(output)
    return lambda value: scores.to_table(filter=pc.field("p") == value)["id"].to_pylist()


def find_by_deltalake(output):
    table = DeltaTable(output)
    return lambda value: table.to_pandas(filters=[("p", "=", value)])["id"].tolist()


def find_by_duckdb(output):
    connection = duckdb.connect()
    connection.register("scores", open_scores(output))
    query = "SELECT id FROM scores WHERE p = ?"
    return lambda value: [row[0] for row in connection.execute(query, [value]).fetchall()]


@pytest.mark.parametrize(
    "reader", [find_by_polars, find_by_arrow, find_by_deltalake, find_by_duckdb]
)
def test_every_reader_filters_by_the_values(table, reader):
    find = reader(table)
    found = {value: find(value) for value in VALUES}
    assert found == {value: [number] for number, value in enumerate(VALUES)}


def test_folders_are_named_and_logged_as_delta_rs_names_and_logs_them(table, tmp_path):
    """Spark leaves some characters in the folder, and finds these by the log."""
    short = [value for value in VALUES if value in SHORT and "~" not in value]
    write_deltalake(tmp_path, pa.table({"id": range(len(short)), "p": short}), partition_by=["p"])
    theirs, ours = logged_folders(tmp_path), logged_folders(table)
    assert theirs <= ours
    assert len(ours - theirs) == len(VALUES) - len(short)
    assert {"p=a%2520b", "p=100%2525", "p=Zo%25C3%25AB"} <= ours
    assert os.path.isdir(f"{table}/p=a%20b")


def logged_folders(output):
    logs = Path(output, "_delta_log").glob("*.json")
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return {os.path.dirname(line["add"]["path"]) for line in lines if "add" in line}


def test_the_table_knows_its_own_files_by_their_values(table):
    opened = DeltaTable(table)
    live = read_live_partitions(opened)
    assert {held.partition: held.run_id for held in live} == dict(
        zip(PARTITIONS, RUNS, strict=True)
    )
    assert [committed_run(opened, partition) for partition in PARTITIONS] == RUNS
    assert [problems for _, problems in verify_partitions(table, opened, live) if problems] == []


def test_vacuum_compaction_and_rollback_find_the_folders(tmp_path):
    """What was replaced goes; what is live stays, in every folder; other writers' files too."""
    output = str(tmp_path / "scores")
    create_table(output, SCHEMA, ["p"])
    opened = DeltaTable(output)
    for partition, run in zip(PARTITIONS, RUNS, strict=True):
        receipts = [stage(output, [n], partition, run, number=n, shards=2) for n in range(2)]
        assert commit_partition(receipts, spec_of(output), opened).state == "committed"
    first = opened.version()
    for partition, run in zip(PARTITIONS, RUNS, strict=True):
        receipt = stage(output, [7], partition, "f" * 15, run)
        assert commit_partition([receipt], spec_of(output), opened).state == "committed"
    for partition in PARTITIONS[::4]:
        rollback_partition(output, partition, first)
    DeltaTable(output).optimize.compact(partition_filters=[("p", "in", sorted(SHORT))])
    would = vacuum_table(output, 0).data_files
    assert len(would) > len(PARTITIONS)
    assert vacuum_table(output, 0, dry_run=False).data_files == would
    assert vacuum_table(output, 0).data_files == []
    opened = DeltaTable(output)
    live = {held.partition: held for held in read_live_partitions(opened)}
    assert [
        found for found in verify_partitions(output, opened, [*live.values()]) if found[1]
    ] == []
    wanted = {p: RUNS[n] if n % 4 == 0 else "f" * 15 for n, p in enumerate(PARTITIONS)}
    assert {partition: held.run_id for partition, held in live.items()} == wanted
    ids = {partition: [] for partition in PARTITIONS}
    for row in open_scores(output).to_table().to_pylist():
        ids[partition_path([("p", row["p"])])].append(row["id"])
    wanted = {p: [0, 1] if n % 4 == 0 else [7] for n, p in enumerate(PARTITIONS)}
    assert {partition: sorted(held) for partition, held in ids.items()} == wanted
    held = sorted(file.path for partition in live.values() for file in partition.files)
    assert (
        sorted(str(path.relative_to(output)) for path in Path(output).glob("p=*/*.parquet")) == held
    )


@pytest.mark.parametrize(
    ("value", "size"), [("x" * 254, 256), ("ü" * 127, 256), ("*" * 85, 257), ("😀" * 64, 258)]
)
def test_a_value_that_no_folder_can_be_named_by_is_refused_before_it_is_scored(value, size):
    partition = partition_path([("p", value)])
    (problem,) = find_name_problems("scores", partition)
    assert f"at most 255 bytes, got {size} bytes" in problem
    assert find_name_problems("gs://lake/scores", partition) == []
    assert find_name_problems("scores", partition_path([("p", value[:-1])])) == []


@pytest.mark.parametrize("column", ["größe", "Day Of", "p;q", "_p", ".p", "😀"])
def test_every_reader_finds_the_name_of_the_column(tmp_path, column):
    output = str(tmp_path / "scores")
    create_table(output, SCHEMA, [column, "q"])
    partition = partition_path([(column, "a b"), ("q", "1/2")])
    assert commit_partition([stage(output, [1], partition)], spec_of(output)).state == "committed"
    wanted = [{"id": 1, "score": 0.5, column: "a b", "q": "1/2"}]
    assert polars.read_delta(output).to_dicts() == wanted
    assert open_scores(output).to_table().to_pylist() == wanted
    assert DeltaTable(output).to_pyarrow_table().to_pylist() == wanted


def test_a_long_folder_is_unescaped_no_further_than_to_ascii():
    assert partition_folder(partition_path([("p", "ü/" * 50)])) == "p=" + "ü%2F" * 50
