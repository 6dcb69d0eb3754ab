"""SIGKILL at seeded random steps of a real process, then a rerun: the table is right.

`make soak` does it 500 times. The model is a LiteRT one, so that a process starts in two seconds.

"""

from __future__ import annotations

import collections
import math
import os
import random
import re
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoreline.pipelines import score_batch, table
from tests.fakes import read_scores, write_file
from tests.processes import run_script

KILLS = int(os.environ.get("SCORELINE_KILLS", "30"))
AT_ONCE = 50  # kills of one test: a soak runs many side by side
DAYS, FILES, ROWS = 4, 3, 40
TOTAL = DAYS * FILES * ROWS
# Counts calls of the steps below, in all threads, and dies in the middle of the chosen one.
SCRIPT = """
import os, signal, sys, threading
from scoreline.lake.files import shards
from scoreline.lake.table import commit, staged_file
from scoreline.pipelines import score_batch
from scoreline.transforms import score, stage

shards.SHARD_ROWS = 40
die_at = int(sys.argv[1])
calls, lock = 0, threading.Lock()

def step(owner, name):
    real = getattr(owner, name)
    def call(*args, **kwargs):
        global calls
        with lock:
            calls += 1
            if calls == die_at:
                print("died at", name, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(owner, name, call)

step(score_batch, "create_table")           # after listing
step(score, "score_batch")                  # mid-shard
step(staged_file.StagedFile, "write")
step(staged_file.StagedFile, "close")       # before a file has its name
step(stage, "write_receipt")                # staged, no receipt: of scores or dead letters
step(commit, "count_duplicate_keys")        # all staged, before the commit
step(commit, "_publish_dead_letters")
step(commit, "_commit")
step(commit, "put_away_letters")            # after the commit
step(commit, "remove_receipts")
step(score_batch, "take_outcomes")          # after the last commit
code = score_batch.main(sys.argv[2:])
print("calls", calls, flush=True)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Days of several files; each has a row without a value, which is a dead letter."""
    root = tmp_path_factory.mktemp("faults") / "lake"
    for number in range(DAYS * FILES):
        a = np.arange(ROWS, dtype=np.float32) + number * 100
        rows = pa.table(
            {
                "id": np.arange(ROWS) + number * ROWS,
                "a": pa.array([None if i == number else v for i, v in enumerate(a)], pa.float32()),
                "b": pa.array(a / 2),
            }
        )
        partition = f"date=2024-01-{number // FILES + 1:02d}"
        write_file(root, partition, f"{number}.parquet", rows)
    return str(root)


@pytest.fixture(scope="module")
def reference(lake):
    rows = pq.read_table(lake, partitioning=None).to_pylist()
    return {r["id"]: 2 * r["a"] + r["b"] for r in rows if r["a"] is not None}


def options_of(lake, model, output, workers):
    options = {"input": lake, "model": model, "keys": "id", "output": output, "workers": workers}
    return [*(f"--{k}={v}" for k, v in options.items()), "--max_dead_letter_ratio=0.5"]


def run_until(folder, die_at, options):
    done = run_script(folder, SCRIPT, die_at, *options)
    return done.code, done.out


def read_whole_partitions(output):
    """Return ids by date; a reader must see a partition whole or not at all."""
    dates: dict[str, list[int]] = collections.defaultdict(list)
    if (output / "_delta_log").exists():
        for row in read_scores(output).to_pylist():
            dates[row["date"]].append(row["id"])
    for ids in dates.values():
        assert len(ids) == len(set(ids)) == FILES * (ROWS - 1)
    return dates


@pytest.mark.timeout(180 + 20 * AT_ONCE)
@pytest.mark.parametrize("seed", range(20241101, 20241101 + math.ceil(KILLS / AT_ONCE)))
def test_killed_at_any_step_a_rerun_makes_the_table_right(
    tmp_path, lake, reference, zoo, monkeypatch, capsys, seed
):
    model = zoo("model.tflite")
    code, out, err = run_script(
        tmp_path, SCRIPT, 0, *options_of(lake, model, tmp_path / "clean", 2)
    )
    assert code == 3, (out, err)
    steps = int(re.search(r"calls (\d+)", out)[1])
    monkeypatch.setattr("scoreline.lake.files.shards.SHARD_ROWS", ROWS)
    counted: list[int] = []
    real = score_batch.read_counters
    monkeypatch.setattr(
        score_batch,
        "read_counters",
        lambda result: counted.append(real(result).get("rows_read", 0)) or real(result),
    )
    chosen = random.Random(seed)
    tally: collections.Counter[str] = collections.Counter()
    for kill in range(min(KILLS, AT_ONCE)):
        output = tmp_path / f"scores{kill}"
        workers = chosen.randint(1, 3)
        die_at = chosen.randint(1, steps)
        code, out = run_until(tmp_path, die_at, options_of(lake, model, output, workers))
        assert code == -signal.SIGKILL, (die_at, out)
        tally[re.search(r"died at (\w+)", out)[1]] += 1

        published = read_whole_partitions(output)
        receipts = list((output / "_scoreline" / "receipts").glob("*/*-scores.json"))
        staged = len({(path.parent.name, path.name) for path in receipts})
        in_flight = [path for path in output.rglob(".part-*.tmp")]
        assert len(in_flight) <= workers
        counted.clear()
        again = score_batch.main(options_of(lake, model, output, chosen.randint(1, 3)))
        assert again in (0, 3)  # 0 when all was published before the kill
        done = len(published) * FILES * ROWS
        # Receipts of a partition that was committed may still be there.
        assert sum(counted) <= max(0, TOTAL - done)
        assert sum(counted) >= TOTAL - done - staged * ROWS
        scores = read_scores(output).to_pylist()
        assert len(scores) == len(reference)
        assert {row["id"]: row["y"] for row in scores} == pytest.approx(reference)
        assert table.main(["verify", f"--output={output}"]) == 0
    capsys.readouterr()
    told = f"{tally.total()} kills, {steps} steps to die at: {dict(tally.most_common())}"
    print(told)  # what `make soak` shows: its processes have no terminal
    with capsys.disabled():
        print(f"\n{told}")
