from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.files.partitions import (
    PartitionSpec,
    _sort_entries,
    list_partitions,
    parse_folder,
    parse_partition_path,
    partition_path,
    run_id_of,
)
from tests.fakes import make_rows, write_file

LOCAL = fs.LocalFileSystem()
NAMES = st.text(st.characters(blacklist_categories=("C", "Z")), min_size=1, max_size=20)


def listing(root, *specs):
    return list_partitions(LOCAL, str(root), [PartitionSpec(spec) for spec in specs])


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=3))
def test_any_value_survives_the_hive_path_and_never_leaves_its_folder(values):
    path = partition_path(values)
    assert parse_partition_path(path) == tuple(values)
    assert len(path.split("/")) == len(values)
    assert all("=" in part for part in path.split("/"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("d=a%2Fb", "a/b"), ("d=a b", "a b"), ("d=..", ".."), ("d=%C3%BC", "ü"), ("d=a=b", "a=b")],
)
def test_odd_values_are_values(name, value):
    assert parse_folder(name) == ("d", value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plain", "expected a folder column=value, got 'plain'"),
        ("=1", "expected a folder column=value"),
        ("d=", "expected a folder column=value"),
        ("d=5%", "expected % to be followed by two hex digits"),
        ("d=%FF", "expected escaped UTF-8"),
        ("d=a%00b", "expected printable characters only"),
        ("d=__HIVE_DEFAULT_PARTITION__", "got a null partition"),
    ],
)
def test_folder_that_is_no_partition_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse_folder(name)


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("d=2", ["2"]),
        ("d=2..10", ["2", "9", "10"]),
        ("d=2024-01-01..2024-01-31", ["2024-01-05", "2024-01-31"]),
        ("d=..", [".."]),
    ],
)
def test_spec_means_a_value_or_an_interval(spec, meant):
    values = ["1", "2", "9", "10", "11", "2024-01-05", "2024-01-31", "2024-02-01", ".."]
    assert [v for v in values if PartitionSpec(spec).matches([("d", v)])] == meant


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("2024-01-01", "expected COLUMN=VALUE or COLUMN=FROM..TO, got '2024-01-01'"),
        ("d=", "expected COLUMN=VALUE"),
        ("a=1/", "got ''"),
        ("d=3..2", "3 is after 2"),
        ("d=b..a", "b is after a"),
    ],
)
def test_wrong_spec_is_refused(spec, message):
    with pytest.raises(ValueError, match=f"--partitions {spec}: .*{message}"):
        PartitionSpec(spec)


def test_folders_no_spec_can_match_are_not_listed(tmp_path, monkeypatch):
    for region in ("eu", "us"):
        for day in (1, 2):
            write_file(tmp_path, f"region={region}/day={day}", "0.parquet", make_rows(0, 1))
    listed = []
    real = list_partitions.__globals__["list_folder"]
    monkeypatch.setitem(
        list_partitions.__globals__,
        "list_folder",
        lambda f, path: listed.append(path.removeprefix(str(tmp_path))) or real(f, path),
    )
    found = listing(tmp_path, "region=eu/day=2").partitions
    assert [p.path for p in found] == ["region=eu/day=2"]
    assert listed == ["", "/region=eu", "/region=eu/day=2"]


def test_hidden_names_are_skipped_and_unknown_files_are_their_partitions_problem(tmp_path):
    write_file(tmp_path, "d=1", "0.parquet", make_rows(0, 1))
    write_file(tmp_path, "d=2", "0.parquet", make_rows(0, 1))
    (tmp_path / "d=1" / "_SUCCESS").write_text("")
    (tmp_path / "d=1" / ".0.parquet.crc").write_text("")
    (tmp_path / "d=2" / "1.parquet.inprogress").write_text("")
    one, two = listing(tmp_path).partitions
    assert one.problems == ()
    assert "1.parquet.inprogress: expected *.parquet, *.tfrecord[.gz], *.csv" in two.problems[0]


def test_problems_of_the_whole_dataset_are_named(tmp_path):
    write_file(tmp_path, "d=1", "0.parquet", make_rows(0, 1))
    write_file(tmp_path, "d=2/e=1", "0.parquet", make_rows(0, 1))
    write_file(tmp_path, "d=3%20", "0.parquet", make_rows(0, 1))
    write_file(tmp_path, "d=3 ", "0.parquet", make_rows(0, 1))
    write_file(tmp_path, ".", "loose.parquet", make_rows(0, 1))
    problems = "\n".join(listing(tmp_path).problems)
    assert "expected the same partition columns everywhere, got d=1 and d=2/e=1" in problems
    assert "several folders of" in problems
    assert "loose.parquet: expected partition folders column=value here" in problems


def test_files_of_several_formats_are_refused_and_one_format_is_detected(tmp_path):
    write_file(tmp_path, "d=1", "0.parquet", make_rows(0, 1))
    (tmp_path / "d=2").mkdir()
    (tmp_path / "d=2" / "0.csv.gz").write_bytes(b"")
    assert listing(tmp_path, "d=2").format == "csv"
    (problem,) = listing(tmp_path).problems
    assert "--input: expected files of one format, got " in problem
    assert "d=2/0.csv.gz and " in problem
    assert "d=1/0.parquet. Keep one of them" in problem


def test_run_id_changes_with_files_and_configuration_only(tmp_path):
    write_file(tmp_path, "d=1", "0.parquet", make_rows(0, 5))
    one = listing(tmp_path).partitions[0]
    assert run_id_of(one, {"a": 1}) == run_id_of(listing(tmp_path).partitions[0], {"a": 1})
    assert len(run_id_of(one, {"a": 1})) == 15
    assert run_id_of(one, {"a": 1}) != run_id_of(one, {"a": 2})
    write_file(tmp_path, "d=1", "0.parquet", make_rows(5, 5))
    assert run_id_of(one, {"a": 1}) != run_id_of(listing(tmp_path).partitions[0], {"a": 1})


def test_files_of_a_folder_are_not_compared_with_each_other():
    """Regression: 100,000 files in one folder took hours to list."""
    compared = []

    class CountingInfo(SimpleNamespace):
        def __eq__(self, other):
            compared.append(other)
            return False

        __hash__ = None

    entries = [
        CountingInfo(base_name=n, path=n, type=fs.FileType.File, size=1, mtime_ns=1)
        for n in [*(f"{i}.parquet" for i in range(1000)), "notes.txt"]
    ]
    problems = []
    _, partition = _sort_entries((("date", "1"),), entries, (), problems)
    assert len(partition.files) == 1000
    assert [p.partition(":")[0] for p in partition.problems] == ["notes.txt"]
    assert compared == []
