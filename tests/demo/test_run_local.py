"""The arithmetic of the demo, and the demo itself as a command."""

from __future__ import annotations

import re
import shutil
import subprocess

import pyarrow as pa
import pytest

from demo.run_local import measure_auc, rank_routes, scoring_arguments
from tests.fakes import ROOT, read_scores, run_command


def test_auc_leaves_out_flights_that_never_arrived():
    scores = pa.table(
        {
            "flight_id": [1, 2, 3, 4],
            "late_probability": pa.array([0.9, 0.1, 0.8, 0.2], pa.float32()),
        }
    )
    outcomes = pa.table(
        {"flight_id": [4, 3, 2, 1], "arr_delay": pa.array([20.0, None, 15.0, 16.0])}
    )
    assert measure_auc(scores, outcomes) == (1.0, 3)


def test_routes_are_ranked_worst_first_when_flown_often():
    scores = pa.table(
        {
            "origin": ["JFK"] * 50 + ["LGA"] * 50 + ["EWR"],
            "dest": ["SEA"] * 101,
            "late_probability": [0.25] * 50 + [0.5] * 50 + [1.0],
        }
    )
    assert rank_routes(scores) == [("LGA → SEA", 0.5, 50), ("JFK → SEA", 0.25, 50)]


def test_fills_and_partitions_are_on_the_command_line():
    arguments = scoring_arguments(["date=2013-01-01"])
    assert "--partitions=date=2013-01-01" in arguments
    assert "--fill=plane_year=0" in arguments


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_main_job(tmp_path):
    """Run the command of `make run-local` in an empty folder, twice, and query the table."""
    for room in ("scoreline", "lake", "models", "transforms", "pipelines", "demo"):
        # Ignore files that other tests compile meanwhile: they may vanish during the copy.
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, tmp_path / room, symlinks=True, ignore=ignored)
    first = run_command("demo.run_local", cwd=tmp_path, timeout=380)
    assert first.code == 0, first.err
    assert "wrote 336,776 flights in 365 partitions" in first.out
    held_out, baseline, found = (float(x) for x in re.findall(r"\b0\.\d{3}\b", first.out)[:3])
    assert held_out > 0.66 > 0.63 > baseline
    assert found == pytest.approx(held_out, abs=0.002)
    assert re.search(r"partitions +61 committed", first.out)
    assert re.search(r"scored +55,403", first.out)
    assert read_scores(tmp_path / "build" / "scores").num_rows == 55_403

    again = run_command("demo.run_local", cwd=tmp_path)
    assert again.code == 0, again.err
    assert "Nothing is left to do: all 61 partitions" in again.out
    january = run_command(
        "demo.run_local", "--partitions=date=2013-01-01..2013-01-31", cwd=tmp_path
    )
    assert january.code == 0, january.err
    assert re.search(r"partitions +31 committed", january.out)
    query = subprocess.run(
        first.out.strip().splitlines()[-1],
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert query.returncode == 0, query.stderr
    assert "late_probability" in query.stdout
