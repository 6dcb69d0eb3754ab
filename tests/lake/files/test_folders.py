"""Folders of partitions: what is odd in them costs its partition, and no other."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyarrow import fs

from scoreline.lake.files.dataset import list_dataset
from scoreline.lake.files.entries import Entries
from scoreline.lake.files.folders import _Walk, list_partitions
from scoreline.lake.files.names import file_format_of
from scoreline.lake.files.partitions import PartitionSpec
from scoreline.lake.files.read import read_shard
from scoreline.transforms.partitions import Wanted, find_work
from tests.fakes import make_rows, write_file
from tests.inputs import write_rows

LOCAL = fs.LocalFileSystem()


def listing(root, *specs):
    return list_partitions(LOCAL, str(root), [PartitionSpec(spec) for spec in specs])


def test_folders_no_spec_can_match_are_not_listed(tmp_path, monkeypatch):
    for region in ("eu", "us"):
        for day in (1, 2):
            write_file(tmp_path, f"region={region}/day={day}", "0.parquet", make_rows(0, 1))
    listed = []
    real = list_partitions.__globals__["list_entries"]
    monkeypatch.setitem(
        list_partitions.__globals__,
        "list_entries",
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


def test_files_of_another_format_fail_their_partition_only(tmp_path):
    for day in (1, 2, 3):
        write_file(tmp_path, f"d={day}", "0.parquet", make_rows(0, 1))
    (tmp_path / "d=2" / "0.csv.gz").write_bytes(b"")
    (tmp_path / "d=4").mkdir()
    (tmp_path / "d=4" / "0.csv").write_bytes(b"")
    assert listing(tmp_path, "d=4").format == "csv"
    found = listing(tmp_path)
    assert (found.format, found.problems) == ("parquet", [])
    problems = {p.path: p.problems for p in found.partitions if p.problems}
    assert problems.keys() == {"d=2", "d=4"}
    assert "d=2/0.csv.gz: expected parquet files only, as in the other" in problems["d=2"][0]


def test_format_of_partitions_that_all_fail_is_their_own(tmp_path):
    for folder in ("d=1/sub", "d=1"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "0.csv").write_bytes(b"")
    found = listing(tmp_path)
    (partition,) = found.partitions
    assert found.format == "csv"
    assert len(partition.problems) == 1
    assert "d=1/sub: expected a folder column=value" in partition.problems[0]


def test_two_formats_are_refused_if_neither_is_in_more_partitions(tmp_path):
    write_file(tmp_path, "d=1", "0.parquet", make_rows(0, 1))
    (tmp_path / "d=2").mkdir()
    (tmp_path / "d=2" / "0.csv.gz").write_bytes(b"")
    (problem,) = listing(tmp_path).problems
    assert "--input: expected files of one format, got " in problem
    assert "d=2/0.csv.gz and " in problem
    assert "d=1/0.parquet. Keep one of them" in problem


NULL_FOLDER = "d=__HIVE_DEFAULT_PARTITION__"


@pytest.mark.parametrize(
    ("folder", "path", "message"),
    [
        (NULL_FOLDER, NULL_FOLDER, "expected a value, got a null partition"),
        ("d=", "d=", "expected a folder column=value, got 'd='"),
        ("d=%2", "d=%252", "expected % to be followed by two hex digits, got 'd=%2'"),
        ("d=%FF", "d=%25FF", "expected escaped UTF-8"),
        ("d=a%00b", "d=a%2500b", "expected printable characters only"),
    ],
)
@pytest.mark.parametrize("below", ["", "/e=1"])
def test_folder_with_a_bad_value_fails_only_its_partition(tmp_path, folder, path, message, below):
    write_file(tmp_path, f"d=1{below}", "0.parquet", make_rows(0, 1))
    write_file(tmp_path, f"{folder}{below}", "0.parquet", make_rows(0, 1))
    found = listing(tmp_path)
    assert found.problems == []
    good, bad = sorted(found.partitions, key=lambda p: p.path != f"d=1{below}")
    assert good.problems == ()
    assert bad.path == f"{path}{below}"
    assert message in bad.problems[0]
    assert [p.path for p in listing(tmp_path, "d=1").partitions] == [f"d=1{below}"]


def link(path, target):
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda day: link(day / "1.parquet", "/gone/x"), "1.parquet leads to /gone/x, which is"),
        (lambda day: link(day / "1.parquet", "1.parquet"), "1.parquet leads in a circle"),
        (lambda day: link(day / "1.parquet", "0.parquet/x"), "1.parquet leads to 0.parquet/x"),
        (lambda day: link(day / "inner", "/gone"), "inner leads to /gone, which is not there"),
        (lambda day: link(day / "self", "."), "expected a folder column=value, got 'self'"),
        (lambda day: link(day / "d=2", "."), "d=2: its column is in the path twice"),
        (lambda day: link(day / "1.parquet", "."), "expected a folder column=value"),
        (lambda day: os.mkfifo(day / "1.parquet"), "expected a file, got a pipe, a socket or a"),
        (lambda day: (day / "README.md").write_text("x"), "README.md: expected *.parquet"),
        (lambda day: (day / "0.csv.zst").write_text("x"), "got a .zst file. Write it anew"),
        (lambda day: (day / "x_$folder$").write_text("x"), "x_$folder$: expected *.parquet"),
        (
            lambda day: Path(os.fsdecode(bytes(day) + b"/\xff.parquet")).touch(),
            "/\\xff.parquet: expected a name in UTF-8",
        ),
    ],
    ids=[
        "link to no file",
        "link to itself",
        "link below a file",
        "link to no folder",
        "link to its own folder",
        "link to its own folder as a partition",
        "link to a folder as a file",
        "pipe",
        "other file",
        "unknown compression",
        "marker with content",
        "name that is no text",
    ],
)
def test_odd_entry_of_a_partition_fails_only_that_partition(tmp_path, spoil, message):
    for day in (1, 2):
        write_file(tmp_path, f"d={day}", "0.parquet", make_rows(0, 1))
    spoil(tmp_path / "d=2")
    found = listing(tmp_path)
    assert found.problems == []
    one, two = found.partitions[:2]
    assert one.problems == ()
    assert message in " ".join(two.problems), two.problems


def test_links_that_lead_somewhere_are_what_they_lead_to(tmp_path):
    file = write_file(tmp_path / "elsewhere", "x", "0.parquet", make_rows(0, 1))
    (tmp_path / "lake" / "d=1").mkdir(parents=True)
    link(tmp_path / "lake" / "d=1" / "0.parquet", file)
    link(tmp_path / "lake" / "d=2", file.parent)
    found = listing(tmp_path / "lake")
    assert [(p.path, p.problems, p.files[0].size_bytes) for p in found.partitions] == [
        (f"d={day}", (), file.stat().st_size) for day in (1, 2)
    ]


def test_partition_folder_that_is_a_link_to_nowhere_fails_and_names_the_link(tmp_path):
    write_file(tmp_path, "d=1/e=1", "0.parquet", make_rows(0, 1))
    link(tmp_path / "d=2", "/gone")
    link(tmp_path / "d=1" / "e=2", "/gone")
    link(tmp_path / "notes", "/gone")
    found = listing(tmp_path)
    assert found.problems == []
    assert {p.path for p in found.partitions if p.problems} == {"d=2", "d=1/e=2"}
    assert "d=2 leads to /gone, which is not there" in found.partitions[-1].problems[0]
    assert [path.rpartition("/")[2] for path in found.passed_over] == ["gone, which is not there"]


def test_what_nobody_may_read_costs_its_partition(tmp_path):
    """Regression: one folder without permission kept all others from being scored."""
    for day in (1, 2, 3):
        write_file(tmp_path, f"d={day}", "0.parquet", make_rows(0, 1))
    (tmp_path / "secret").mkdir()
    link(tmp_path / "d=3" / "1.parquet", tmp_path / "secret" / "x")
    (tmp_path / "secret").chmod(0)
    (tmp_path / "d=2").chmod(0)
    own = Path(tempfile.gettempdir())
    for folder in (tmp_path, *tmp_path.parents):  # as deep as the test process made them
        if folder == own:
            break
        folder.chmod(0o755)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)  # root may read everything
    try:
        found = listing(tmp_path)
    finally:
        if is_root:
            os.seteuid(0)
        (tmp_path / "d=2").chmod(0o755)
        (tmp_path / "secret").chmod(0o755)
    assert [bool(p.problems) for p in found.partitions] == [False, True, True]
    assert f"folder {tmp_path}/d=2 cannot be listed: " in found.partitions[1].problems[0]
    assert "d=3/1.parquet cannot be read: " in found.partitions[2].problems[0]


def test_column_whose_name_begins_with_an_underscore_is_a_partition_column(tmp_path):
    """Regression: its folders were skipped in silence, like other hidden names."""
    write_file(tmp_path, "_d=3", "0.parquet", make_rows(0, 1))
    (tmp_path / "_temporary" / "0").mkdir(parents=True)
    assert [p.path for p in listing(tmp_path).partitions] == ["_d=3"]


def test_files_above_the_partitions_are_passed_over_unless_they_hold_rows(tmp_path):
    for day in (1, 2):
        write_file(tmp_path, f"d={day}/e=1", "0.parquet", make_rows(0, 1))
    for name in ("README.md", "dataset_info.json", "d=1_$folder$", "_SUCCESS", ".x.crc"):
        (tmp_path / name).write_text("" if "$" in name else "x")
    (tmp_path / "d=1" / "notes.txt").write_text("x")
    (tmp_path / "d=1" / "e=1" / "e_$folder$").write_text("")
    found = listing(tmp_path, "d=1", "d=2")
    assert found.problems == []
    assert [p.problems for p in found.partitions] == [(), ()]
    assert [path.rpartition("/")[2] for path in found.passed_over] == [
        "README.md",
        "dataset_info.json",
        "notes.txt",
    ]
    write_file(tmp_path, "d=2", "loose.parquet", make_rows(0, 1))
    one, two = listing(tmp_path, "d=1", "d=2").partitions
    assert one.problems == ()
    assert "loose.parquet: expected files only below the innermost" in two.problems[0]


@pytest.mark.parametrize(
    ("name", "data_format"),
    [
        ("data_tfrecord-00000-of-00001.gz", "tfrecord"),
        ("x.tfrecord-00000-of-00001", "tfrecord"),
        ("tfrecord-00000-of-00001", "tfrecord"),
        ("a.tfrecords", "tfrecord"),
        ("a.tfrec", "tfrecord"),
        ("A.TFRECORD.GZ", "tfrecord"),
        ("part-00000-of-00002.tfrecord.gz", "tfrecord"),
        ("part-0.c000.snappy.parquet", "parquet"),
        ("part-0.gz.parquet", "parquet"),
        ("a.parq", "parquet"),
        ("a.PARQUET", "parquet"),
        ("a.csv.gz", "csv"),
        ("a.csv-00000-of-00002", "csv"),
        ("a.Csv", "csv"),
        ("a.ndjson", "jsonl"),
        ("a.jsonl.gz", "jsonl"),
        ("a.json", "jsonl"),
        ("part-00000", ""),
        ("a.parquet.gz", ""),
        ("a.csv.bz2", ""),
        ("my_csv", ""),
        ("mytfrecord", ""),
        ("a.tsv", ""),
        ("a.parquet._COPYING_", ""),
    ],
)
def test_name_of_a_file_shows_its_format(name, data_format):
    assert file_format_of(f"/lake/d=1/{name}") == data_format


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
    walk = _Walk(())
    assert walk.visit((("date", "1"),), Entries(entries)) == []
    (partition,) = walk.partitions()
    assert len(partition.files) == 1000
    assert [p.partition(":")[0] for p in partition.problems] == ["notes.txt"]
    assert compared == []


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("data_tfrecord-00000-of-00001.gz", "tfrecord"),
        ("x.tfrecord-00000-of-00001", "tfrecord"),
        ("a.tfrecords", "tfrecord"),
        ("A.TFRECORD.GZ", "tfrecord"),
        ("a.csv-00000-of-00001.gz", "csv"),
        ("A.CSV.GZ", "csv"),
        ("a.ndjson", "jsonl"),
        ("A.JSONL.GZ", "jsonl"),
        ("a.parq", "parquet"),
    ],
)
def test_files_of_any_name_are_read_and_the_folder_has_the_value(tmp_path, name, suffix):
    """The files have a column `n` with other values than the partition."""
    written = write_rows(tmp_path, "n=07", "0", make_rows(0, 5), suffix)
    data = written.read_bytes()
    written.unlink()
    is_gzip = name.casefold().endswith(".gz")
    (written.parent / name).write_bytes(gzip.compress(data) if is_gzip else data)
    found = find_work(Wanted(str(tmp_path), (), ("id", "n"), None, {}, False, None))
    (shard,) = found.shards
    rows = pa.Table.from_batches(read_shard(LOCAL, shard, found.dataset)).to_pylist()
    assert rows == [{"id": i, "n": 7} for i in range(5)]


@pytest.mark.parametrize("name", ["_delta_log", ".hoodie", ".hoodie_partition_metadata"])
def test_table_within_a_partition_is_not_read_as_files(tmp_path, name):
    """Its folder also holds the files that it has replaced: rows would be scored twice."""
    for day in (1, 2):
        write_file(tmp_path, f"d={day}", "0.parquet", make_rows(0, 1))
    (tmp_path / "d=2" / name).mkdir()
    one, two = listing(tmp_path).partitions
    assert one.problems == ()
    assert "expected a folder of files, got a " in two.problems[0]
    (tmp_path / ".hoodie").mkdir()
    assert "got a Hudi table" in listing(tmp_path).problems[0]


def test_folder_within_a_delta_table_is_not_read_as_files(tmp_path):
    write_file(tmp_path, "d=1/e=1", "0.parquet", make_rows(0, 1))
    assert list_dataset(f"{tmp_path}/d=1", ()).problems == []
    (tmp_path / "_delta_log").mkdir()
    (problem,) = list_dataset(f"{tmp_path}/d=1/", ()).problems
    assert f"expected the Delta table {tmp_path}, got a folder in it: " in problem
