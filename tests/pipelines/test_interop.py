"""Files that other programs write are scored as they are; tables are read by others as they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import polars
import pyarrow.parquet as pq
import pytest

from scoreline.pipelines import score_batch
from scoreline.pipelines.runners.cache import cache_folder
from tests.fakes import ROOT, expected_scores, read_scores
from tests.interop import KEPT, READERS, VALUES, WRITERS, make_table, rows_by_id
from tests.required import fail_or_skip

ROWS = make_table()
WANTED = rows_by_id(ROWS.to_pylist())
# fastparquet has fewer types.
WHOLE = [name for name in WRITERS if name != "fastparquet"]


def score(lake, model, output, keep):
    flags = [f"--input={lake}", f"--model={model}", f"--output={output}", "--keys=id"]
    assert score_batch.main([*flags, f"--keep={','.join(keep)}"]) == 0
    return str(output)


@pytest.fixture(scope="module")
def scored(tmp_path_factory, model):
    """Return the table of one job over files of all writers."""
    root = tmp_path_factory.mktemp("writers")
    for name in WHOLE:
        WRITERS[name](ROWS, root / "lake" / f"writer={name}")
    return score(root / "lake", model, root / "scores", KEPT)


@pytest.mark.parametrize("writer", WHOLE)
def test_what_others_write_is_kept_and_scored_as_it_is(scored, writer):
    rows = [row for row in read_scores(scored).to_pylist() if row["writer"] == writer]
    assert rows_by_id(rows) == WANTED
    scores = {row["id"]: row["score"] for row in rows}
    assert scores == pytest.approx(expected_scores(ROWS))


@pytest.mark.parametrize("reader", READERS)
def test_others_read_what_is_in_the_table(scored, reader):
    rows = READERS[reader](scored)
    assert len(rows) == len(WHOLE) * len(WANTED)
    for writer in WHOLE:
        assert rows_by_id(row for row in rows if row["writer"] == writer) == WANTED


def test_duckdb_reads_and_filters_the_table_by_its_own_extension(scored, tmp_path):
    version = re.search(r"^DUCKDB_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    packages = cache_folder() / f"duckdb-{version}"
    if not packages.is_dir():
        fail_or_skip(f"delta_scan of DuckDB, which is not at {packages}: run `make duckdb-delta`")
    read, counted = tmp_path / "rows.parquet", tmp_path / "counts.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.duckdb_delta", scored, str(read), str(counted), *VALUES],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(read).to_pylist()
    assert len(rows) == len(WHOLE) * len(WANTED)
    for writer in WHOLE:
        assert rows_by_id(row for row in rows if row["writer"] == writer) == WANTED
    counts = json.loads(counted.read_text())
    assert counts == dict.fromkeys(VALUES, 2 * len(WHOLE))


def test_what_fastparquet_writes_is_kept_and_scored_as_it_is(tmp_path, model):
    WRITERS["fastparquet"](ROWS, tmp_path / "lake")
    keep = [name for name in KEPT if name not in ("day", "price", "tags", "user")]
    output = score(tmp_path / "lake", model, tmp_path / "scores", keep)
    rows = rows_by_id(read_scores(output).to_pylist())
    assert {row["p"] for row in rows.values()} == {p for p in VALUES if not set(p) & set("/%\\")}
    wanted = {id_: {name: WANTED[id_][name] for name in row} for id_, row in rows.items()}
    assert rows == wanted


def test_a_delta_table_of_polars_is_kept_and_scored_as_it_is(tmp_path, model):
    options = {"partition_by": "p"}
    polars.from_arrow(ROWS).write_delta(tmp_path / "lake", delta_write_options=options)
    output = score(tmp_path / "lake", model, tmp_path / "scores", KEPT)
    assert rows_by_id(read_scores(output).to_pylist()) == WANTED
    assert rows_by_id(READERS["polars"](output)) == WANTED
