from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.files.folders import list_partitions
from scoreline.lake.files.partitions import (
    NULL_PARTITION,
    Partition,
    PartitionSpec,
    newest,
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
        ("p=a/b", "got 'b'. Write a slash within a value as %2F"),
        ("d=", "expected COLUMN=VALUE"),
        ("a=1/", "got ''"),
        ("d=3..2", "3 is after 2"),
        ("d=b..a", "b is after a"),
    ],
)
def test_wrong_spec_is_refused(spec, message):
    with pytest.raises(ValueError, match=f"--partitions {spec}: .*{message}"):
        PartitionSpec(spec)


def test_run_id_changes_with_files_and_configuration_only(tmp_path):
    write_file(tmp_path, "d=1", "0.parquet", make_rows(0, 5))
    one = listing(tmp_path).partitions[0]
    assert run_id_of(one, {"a": 1}) == run_id_of(listing(tmp_path).partitions[0], {"a": 1})
    assert len(run_id_of(one, {"a": 1})) == 15
    assert run_id_of(one, {"a": 1}) != run_id_of(one, {"a": 2})
    write_file(tmp_path, "d=1", "0.parquet", make_rows(5, 5))
    assert run_id_of(one, {"a": 1}) != run_id_of(listing(tmp_path).partitions[0], {"a": 1})


def of(*texts):
    """Return partitions of these hive paths."""
    return [
        Partition(text, parse_partition_path(text), lacks_value=NULL_PARTITION in text)
        for text in texts
    ]


@pytest.mark.parametrize(
    ("count", "partitions", "wanted"),
    [
        pytest.param(1, of("d=9", "d=10"), ["d=10"], id="numbers"),
        pytest.param(1, of("d=-9", "d=-10"), ["d=-9"], id="negative numbers"),
        pytest.param(1, of("d=2024-2-29", "d=2024-10-1"), ["d=2024-10-1"], id="unpadded dates"),
        pytest.param(1, of("d=2024%2F2%2F9", "d=2024%2F10%2F1"), ["d=2024%2F10%2F1"], id="slashes"),
        pytest.param(1, of("d=2024-W9", "d=2024-W10"), ["d=2024-W10"], id="weeks"),
        pytest.param(1, of("d=2024.9", "d=2024.10"), ["d=2024.10"], id="months with a dot"),
        pytest.param(1, of("d=20240229", "d=20241001"), ["d=20241001"], id="compact dates"),
        pytest.param(1, of("d=run_9", "d=run_10"), ["d=run_10"], id="numbered text"),
        pytest.param(
            1,
            of("d=2024-01-01 10:00:00.5", "d=2024-01-01 10:00:00.25"),
            ["d=2024-01-01 10:00:00.5"],
            id="fractions of a second",
        ),
        pytest.param(
            1, of("y=2024/m=9", "y=2024/m=10"), ["y=2024/m=10"], id="months beside their year"
        ),
        pytest.param(
            2,
            of("r=eu/d=1", "r=eu/d=2", "r=us/d=1", "r=us/d=2"),
            ["r=eu/d=2", "r=us/d=2"],
            id="a text above the days",
        ),
        pytest.param(1, of("d=1", f"d={NULL_PARTITION}"), ["d=1"], id="a null"),
        pytest.param(9, of("d=1", f"d={NULL_PARTITION}"), ["d=1"], id="a null, and room for it"),
        pytest.param(9, of("d=b", "d=a"), ["d=a", "d=b"], id="texts, and room for all"),
        pytest.param(9, of(f"d={NULL_PARTITION}"), [], id="only a null"),
    ],
)
def test_newest_partitions_are_the_latest_in_time_or_number(count, partitions, wanted):
    assert [p.path for p in newest(partitions, count)] == wanted


@pytest.mark.parametrize(
    "partitions",
    [
        pytest.param(of("d=a", "d=b"), id="texts"),
        pytest.param(of("d=29-02-2024", "d=01-10-2024"), id="the day first"),
        pytest.param(of("d=02-29-24", "d=10-01-24"), id="years of two digits"),
        pytest.param(of("d=2-9", "d=10-1"), id="day or month first"),
        pytest.param(of("d=2024229", "d=20241001"), id="compact dates without padding"),
        pytest.param(of("d=2024-01-01", "d=latest"), id="a text beside dates"),
        pytest.param(of("d=2024-01-01", "d=20240102"), id="two forms of dates"),
        pytest.param(of("d=2024-01-01", "d=2024-02"), id="days and months"),
        pytest.param(of("d=1.9", "d=1.10"), id="versions or decimals"),
        pytest.param(of("y=2024/m=Feb", "y=2024/m=Oct"), id="names of months"),
        pytest.param(
            of("d=2024-01-01T00:00:00+01:00", "d=2024-01-01T00:00:00+02:00"), id="two time zones"
        ),
        pytest.param(of("r=eu/d=2", "r=us/d=2"), id="equal days"),
    ],
)
def test_newest_partition_is_refused_where_the_order_is_unknown(partitions):
    with pytest.raises(ValueError, match="expected partitions whose order is known, got "):
        newest(partitions, 1)


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("d=2024-02-01..2024-3-1", ["2024-2-29", "2024-02-29"]),
        ("d=A..Z", ["Feb"]),
        ("d=week 2..week 10", ["week 9"]),
        (f"d={NULL_PARTITION}", [NULL_PARTITION]),
    ],
)
def test_interval_compares_dates_without_padding_and_never_means_a_null(spec, meant):
    values = ["2024-2-29", "2024-02-29", "2024-10-1", "week 9", "week 11", "Feb", NULL_PARTITION]
    assert [v for v in values if PartitionSpec(spec).matches([("d", v)])] == meant
