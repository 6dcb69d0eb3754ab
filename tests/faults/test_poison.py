"""Rows on which the model raises, at any place and in any number: each costs only itself."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from scoreline.pipelines import score_batch, table
from tests.fakes import expected_scores, make_rows, read_scores, save_model, write_file

ROWS, FILES = 1500, 2
TOTAL = ROWS * FILES
_chosen = random.Random(5)
PLACES = {
    "first": [0],
    "last": [TOTAL - 1],
    "ends of files": [0, ROWS - 1, ROWS, TOTAL - 1],
    "random": _chosen.sample(range(TOTAL), 5),
    "1 %": _chosen.sample(range(TOTAL), TOTAL // 100),
    "10 %": _chosen.sample(range(TOTAL), TOTAL // 10),
    "100 %": list(range(TOTAL)),
}


@pytest.fixture(scope="module")
def strict_model(tmp_path_factory):
    """A model that raises if any |x| of a call is above 10."""
    return save_model(tmp_path_factory.mktemp("strict") / "model", limit=10.0)


def run_poisoned(tmp_path, model, poison):
    """Score a bad and a good partition; return the exit code and the rows of the bad one."""
    x = [99.0 if row in set(poison) else row % 7 for row in range(TOTAL)]
    rows = make_rows(0, TOTAL).set_column(1, "x", pa.array(x, pa.float32()))
    for file in range(FILES):
        part = rows.slice(file * ROWS, ROWS)
        write_file(tmp_path / "lake", "date=2024-01-01", f"{file}.parquet", part)
    write_file(tmp_path / "lake", "date=2024-01-02", "0.parquet", make_rows(TOTAL, 100))
    options = {"input": tmp_path / "lake", "model": model, "keys": "id", "batch_rows": 500}
    flags = [f"--{name}={value}" for name, value in options.items()]
    output = f"--output={tmp_path / 'scores'}"
    code = score_batch.main([*flags, output, "--max_dead_letter_ratio=1"])
    assert table.main(["verify", output]) == 0
    return code, rows


@pytest.mark.parametrize(
    "poison", [p for n, p in PLACES.items() if n != "100 %"], ids=list(PLACES)[:-1]
)
def test_poison_costs_the_poisoned_rows_alone(tmp_path, strict_model, poison, capsys):
    code, rows = run_poisoned(tmp_path, strict_model, poison)
    assert code == 3
    wanted = expected_scores(rows) | expected_scores(make_rows(TOTAL, 100))
    scored = {row["id"]: row["score"] for row in read_scores(tmp_path / "scores").to_pylist()}
    assert scored == pytest.approx({i: s for i, s in wanted.items() if i not in poison}, rel=1e-5)
    letters = f"{tmp_path / 'scores'}_dead_letters"
    dead = pyarrow.dataset.dataset(letters, partitioning="hive").to_table()
    assert sorted(dead["id"].to_pylist()) == sorted(poison)
    assert all(reason.startswith("InvalidArgumentError") for reason in dead["_reason"].to_pylist())


def test_poison_everywhere_costs_its_partition_and_is_found_early(tmp_path, strict_model, capsys):
    code, _ = run_poisoned(tmp_path, strict_model, PLACES["100 %"])
    assert code == 1
    told = "".join(capsys.readouterr())
    assert "every one of 64 rows spread over a batch of 500 fails alone: InvalidArgument" in told
    assert pq.read_table(tmp_path / "lake" / "date=2024-01-01").num_rows == TOTAL
