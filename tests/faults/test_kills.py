"""SIGKILL at every step of a real process, then a rerun: the table must be correct.

`make soak` does it 500 times. The model is a LiteRT model, so that a process starts in 2 s.
"""

from __future__ import annotations

import collections
import os
import random
import signal

import numpy as np
import pyarrow as pa
import pytest

from scoreline.lake.kill_points import KILL_POINTS
from scoreline.pipelines import table
from tests.fakes import read_scores, score_counted
from tests.inputs import write_rows
from tests.processes import run_to_death

KILLS = int(os.environ.get("SCORELINE_KILLS", "30"))
AT_ONCE = 50  # kills per test; a soak runs many tests in parallel
DAYS, FILES, ROWS = 4, 3, 40
SHARDS = DAYS * FILES
TOTAL = SHARDS * ROWS
# How often a run reaches each point. Every file has a dead letter, so each shard has two files.
POINTS = {
    "planned": 1,
    "scoring": SHARDS,
    "writing": 2 * SHARDS,
    "written": 2 * SHARDS,
    "staged": 2 * SHARDS,
    "gathered": DAYS,
    "checked": DAYS,
    "letters_published": DAYS,
    "committed": DAYS,
    "cleared": DAYS,
    "job_done": 1,
}


def choose_kills():
    """Return the kill point of each run, in parts of at most `AT_ONCE`, and a seed.

    Points take turns, so that all are reached. The number of passes before the kill is random.
    """
    chosen = random.Random(20241101)
    points = [list(POINTS)[kill % len(POINTS)] for kill in range(KILLS)]
    kills = [f"{point}:{chosen.randint(1, POINTS[point])}" for point in points]
    return [kills[first : first + AT_ONCE] for first in range(0, KILLS, AT_ONCE)]


@pytest.fixture(scope="module")
def rows():
    """Return the rows of each file; one row per file has no value and is a dead letter."""
    files = []
    for number in range(SHARDS):
        a = np.arange(ROWS, dtype=np.float32) + number * 100
        values = [None if i == number else v for i, v in enumerate(a.tolist())]
        ids = np.arange(ROWS) + number * ROWS
        files.append(pa.table({"id": ids, "a": pa.array(values, pa.float32()), "b": a / 2}))
    return files


@pytest.fixture(scope="module")
def lake(tmp_path_factory, rows):
    """Days of several JSON Lines files; each file is one shard."""
    root = tmp_path_factory.mktemp("faults") / "lake"
    for number, of_file in enumerate(rows):
        partition = f"date=2024-01-{number // FILES + 1:02d}"
        write_rows(root, partition, str(number), of_file, "jsonl")
    return str(root)


@pytest.fixture(scope="module")
def reference(rows):
    every = pa.concat_tables(rows).to_pylist()
    return {row["id"]: 2 * row["a"] + row["b"] for row in every if row["a"] is not None}


def options_of(lake, model, output, workers):
    options = {"input": lake, "model": model, "keys": "id", "output": output, "workers": workers}
    return [
        *(f"--{name}={value}" for name, value in options.items()),
        "--columns=a=float32(a),b=float32(b)",
        "--max_dead_letter_ratio=0.5",
    ]


def read_whole_partitions(output):
    """Return ids by date; a reader must see a whole partition or nothing of it."""
    dates: dict[str, list[int]] = collections.defaultdict(list)
    if (output / "_delta_log").exists():
        for row in read_scores(output).to_pylist():
            dates[row["date"]].append(row["id"])
    for ids in dates.values():
        assert len(ids) == len(set(ids)) == FILES * (ROWS - 1)
    return dates


def test_kills_reach_every_point_of_a_batch():
    assert POINTS.keys() == KILL_POINTS - {"delivered"}  # points of streams: tests/integration
    reached = {kill.partition(":")[0] for kills in choose_kills() for kill in kills}
    assert reached == POINTS.keys()


@pytest.mark.slow
@pytest.mark.timeout(180 + 20 * AT_ONCE)
@pytest.mark.parametrize("kills", choose_kills(), ids=lambda kills: f"{len(kills)} kills")
def test_killed_at_any_step_a_rerun_makes_the_table_right(
    tmp_path, lake, reference, zoo, capsys, kills
):
    model = zoo("model.tflite")
    workers = random.Random(len(kills))
    for number, kill in enumerate(kills):
        output = tmp_path / f"scores{number}"
        first = workers.randint(1, 3)
        killed = run_to_death(kill, "batch", *options_of(lake, model, output, first))
        assert killed.code == -signal.SIGKILL, (kill, killed)

        published = read_whole_partitions(output)
        receipts = list((output / "_scoreline" / "receipts").glob("*/*-scores.json"))
        staged = len({(path.parent.name, path.name) for path in receipts})
        assert len(list(output.rglob(".part-*.tmp"))) <= first
        code, counters = score_counted(options_of(lake, model, output, workers.randint(1, 3)))
        assert code in (0, 3)  # 0 if everything was published before the kill
        read = counters.get("rows_read", 0)
        left = TOTAL - len(published) * FILES * ROWS
        # Receipts of a committed partition may still exist.
        assert left - staged * ROWS <= read <= left, kill
        scores = read_scores(output).to_pylist()
        assert len(scores) == len(reference)
        assert {row["id"]: row["y"] for row in scores} == pytest.approx(reference)
        assert table.main(["verify", f"--output={output}"]) == 0
    capsys.readouterr()
    tally = collections.Counter(kill.partition(":")[0] for kill in kills)
    told = f"{len(kills)} kills: {dict(tally)}"
    print(told)  # output of `make soak`, whose processes have no terminal
    with capsys.disabled():
        print(f"\n{told}")
