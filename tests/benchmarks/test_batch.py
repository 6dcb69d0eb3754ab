"""The benchmark's rows, comparison and arithmetic."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.compare import Mismatch, check, check_equal, read_rows
from benchmarks.data import tile
from benchmarks.designs import DESIGNS, Case, choose_cases
from benchmarks.measure import RunFailed, Usage, measure
from benchmarks.report import Sample, summarize, write_report
from benchmarks.steady import Cost
from tests.fakes import write_file


@pytest.fixture
def flights(tmp_path):
    """Two days of 5 and 3 flights. Keys are not in the order of the days."""
    for date, keys in (("2013-01-01", [1, 2, 5, 6, 8]), ("2013-01-02", [3, 4, 7])):
        rows = pa.table({"flight_id": keys, "carrier": [f"c{key}" for key in keys]})
        write_file(tmp_path / "flights", f"date={date}", "part-0.parquet", rows)
    return tmp_path / "flights"


def write_scores(folder, keys, scores, carriers=None):
    carriers = carriers or [f"c{(key - 1) % 8 + 1}" for key in keys]
    rows = pa.table({"flight_id": keys, "carrier": carriers, "score": scores})
    write_file(folder, "date=2020-01-01", "scores.parquet", rows)
    return folder


def test_tiles_have_distinct_keys_and_dates_and_the_rows_asked_for(flights, tmp_path):
    folders = tile(flights, tmp_path / "cache", [4, 20])
    rows = read_rows(folders[20], "flight_id")
    assert rows["flight_id"].to_pylist() == list(range(1, 21))
    assert rows["carrier"].to_pylist()[8:11] == ["c1", "c2", "c3"]
    assert [path.name for path in sorted(folders[20].iterdir())] == [
        "date=2020-01-01",
        "date=2020-01-02",
        "date=2020-01-03",
    ]
    assert read_rows(folders[4], "flight_id").equals(rows.slice(0, 4))
    assert tile(flights, tmp_path / "cache", [4]) == {4: folders[4]}


def test_tiles_of_other_content_are_written_again(flights, tmp_path):
    before = tile(flights, tmp_path / "cache", [4])
    rows = pa.table({"flight_id": [9], "carrier": ["c9"]})
    write_file(flights, "date=2013-01-03", "part-0.parquet", rows)
    assert tile(flights, tmp_path / "cache", [4])[4] != before[4]


@pytest.mark.parametrize(
    ("keys", "carriers", "message"),
    [
        ([1, 2, 3], None, "1 keys are missing"),
        ([1, 2, 3, 4, 4], None, "got 5 rows with 4 distinct keys"),
        ([1, 2, 3, 5], None, "1 keys are missing"),
        ([1, 2, 3, 4], ["c1", "c2", "c3", "c5"], "expected column carrier of the data set"),
    ],
    ids=["missing", "doubled", "other", "kept column changed"],
)
def test_rows_that_are_not_those_of_the_data_set_are_found(
    flights, tmp_path, keys, carriers, message
):
    dataset = tile(flights, tmp_path / "cache", [4])[4]
    output = write_scores(tmp_path / "scores", keys, [0.5] * len(keys), carriers)
    with pytest.raises(Mismatch, match=message):
        check("bare loop", dataset, output, "flight_id", ["carrier"])


def test_scores_in_another_order_are_compared_by_key(flights, tmp_path):
    dataset = tile(flights, tmp_path / "cache", [4])[4]
    output = write_scores(tmp_path / "scores", [4, 1, 3, 2], [0.4, 0.1, 0.3, 0.2])
    scores = check("Scoreline", dataset, output, "flight_id", ["carrier"])
    reference = pa.table({"flight_id": range(1, 9), "score": np.arange(1, 9) / 10 + 1e-7})
    check_equal("Scoreline", scores, reference, "flight_id")
    other = reference.set_column(1, "score", pa.array([0.1, 0.2, 0.31, 0.4, 0, 0, 0, 0]))
    with pytest.raises(Mismatch, match=r"expected 0.31 in score of key 3, got 0.3; 1 of 4 "):
        check_equal("Scoreline", scores, other, "flight_id")


def test_the_cost_of_children_is_measured(tmp_path):
    burn = "import time\nwhile time.process_time() < 0.4: pass\nb = bytearray(60_000_000)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    usage = measure([sys.executable, "-c", code], tmp_path / "log")
    assert usage.cpu_s > 0.4
    assert usage.wall_s >= 0.4
    assert usage.peak_rss_mb > 10


def test_a_failing_design_shows_the_end_of_its_log(tmp_path):
    with pytest.raises(RunFailed, match=r"exited with 3:\nwhy"):
        measure([sys.executable, "-c", "print('why'); raise SystemExit(3)"], tmp_path / "log")


def test_row_costs_leave_out_start_up(tmp_path):
    def start_up(cpu):
        return Sample(Usage(cpu, cpu, 400), None)

    def rows(cpu, wall, peak):
        whole = Usage(10 + cpu, 10 + wall, peak)  # not that of the process that ran three jobs
        return Sample(Usage(99, 99, peak), Cost(cpu, wall), whole)

    samples = {
        Case("bare_loop", "small", 1, 101_000): [rows(0.1, 1, 500), rows(0.2, 2, 500)],
        Case("bare_loop", "small", 1, 1_000): [start_up(9), start_up(11)],
        Case("bare_loop_without_keras", "small", 1, 1_000): [start_up(6), start_up(6)],
        Case("scoreline", "small", 2, 101_000): [rows(0.2, 0.5, 700), rows(0.4, 1, 700)],
        Case("scoreline", "small", 2, 1_000): [start_up(12), start_up(12)],
        Case("scoreline", "small", 1, 101_000): [rows(0.2, 1, 660), rows(0.4, 2, 660)],
        Case("scoreline", "small", 1, 1_000): [start_up(12), start_up(12)],
        Case("scoreline", "small", 1, 10_100): [rows(0.1, 1, 600), rows(0.1, 1, 600)],
    }
    bare, two, one = summarize(samples)
    assert bare["cpu_us_per_row"] == pytest.approx(1.5)
    assert bare["rows_per_s"] == pytest.approx(66_667)
    assert (bare["startup_cpu_s"], bare["peak_rss_mb"]) == (10, 500)
    assert one["cpu_ratio_to_bare_loop"] == pytest.approx(2.0)
    assert one["startup_cpu_ratio_to_bare_loop"] == pytest.approx(1.2)
    assert one["startup_cpu_ratio_to_bare_loop_without_keras"] == pytest.approx(2.0)
    assert one["rss_ratio_10x"] == pytest.approx(1.1)
    assert (one["speedup"], two["speedup"]) == (1, 2)
    assert two["whole_wall_ratio_to_bare_loop"] == pytest.approx(
        (10.5 / 11 + 11 / 12) / 2, rel=1e-3
    )
    assert one["whole_cpu_ratio_to_bare_loop"] == pytest.approx(
        (10.2 / 10.1 + 10.4 / 10.2) / 2, rel=1e-3
    )
    text = write_report([bare, two, one], tmp_path)
    assert "| Scoreline | small | 1 | 101,000 | 3 | 2.00 | 66,667 | 12.0 | 1.20 | 660 |" in text
    assert "101,000 rows with 2 worker(s), the whole command, take 0.94 × the wall time" in text
    assert (tmp_path / "batch.md").read_text() == text


def test_rows_are_measured_within_one_process(tmp_path):
    (tmp_path / "design.py").write_text(
        "import time, sys\n"
        "def main(argv):\n"
        "    sys.stdout.write(' '.join(argv) + '\\n')\n"
        "    began = time.process_time()\n"
        "    while time.process_time() < began + (0.3 if '--input=large' in argv else 0.1): pass\n"
    )
    result = tmp_path / "cost.json"
    options = ["--input=large", "--fill=a=b", "--output=out"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.steady", result, "small", "design", *options],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "--input=small --fill=a=b --output=out-1",
        "--input=small --fill=a=b --output=out-2",
        "--input=large --fill=a=b --output=out",
    ]
    assert Cost(*json.loads(result.read_text())).cpu_s == pytest.approx(0.2, abs=0.05)


def test_every_largest_case_comes_with_its_start_up():
    cases = choose_cases("small", DESIGNS, 500_000)
    assert cases[0] == Case("bare_loop", "small", 1, 500_000)
    for case in cases:
        assert case._replace(rows=1_000) in cases


def test_parquet_without_files_is_no_scores(tmp_path):
    with pytest.raises(Mismatch, match="expected Parquet files, got none"):
        read_rows(tmp_path, "flight_id")
    pq.write_table(pa.table({"flight_id": [1]}), tmp_path / "a.parquet")
    assert read_rows(tmp_path, "flight_id").num_rows == 1
