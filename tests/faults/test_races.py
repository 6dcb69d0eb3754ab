"""Many real processes write one table, while a reader reads it."""

from __future__ import annotations

import collections
import threading

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from scoreline.lake.table.log import read_commits
from scoreline.pipelines import score_batch, table
from tests.fakes import read_scores, write_file
from tests.processes import race

pytestmark = pytest.mark.slow

DAYS, ROWS = 3, 50


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    root = tmp_path_factory.mktemp("races") / "lake"
    for day in range(DAYS):
        a = np.arange(ROWS, dtype=np.float32) + day * ROWS
        rows = pa.table({"id": np.arange(ROWS) + day * ROWS, "a": a, "b": a})
        write_file(root, f"date=2024-01-0{day + 1}", "0.parquet", rows)
    return str(root)


def options_of(lake, model, output, *more):
    return [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={output}", *more]


@pytest.mark.timeout(400)  # eight processes import Beam on two cores, beside other tests
def test_eight_runs_at_once_commit_each_partition_once_and_the_others_say_so(tmp_path, lake, zoo):
    output = tmp_path / "scores"
    options = options_of(lake, zoo("model.tflite"), output, "--workers=1")
    ended = race(8, *options, timeout=380)
    assert [run.code for run in ended] == [0] * 8, ended
    committed = others = 0
    for run in ended:
        line = next(line for line in run.out.splitlines() if line.startswith("partitions"))
        committed += int(line.split()[1])
        if "committed by another run" in line:
            others += int(line.split(",")[1].split()[0])
    assert (committed, others) == (DAYS, 7 * DAYS)
    assert not list(output.rglob("*.tmp"))
    commits = [c for c in read_commits(DeltaTable(str(output))) if "partition" in c]
    assert len(commits) == len({commit["partition"] for commit in commits}) == DAYS
    ids = read_scores(output)["id"].to_pylist()
    assert sorted(ids) == list(range(DAYS * ROWS))
    assert table.main(["verify", f"--output={output}"]) == 0


def test_a_reader_sees_whole_partitions_of_one_model_all_the_while(tmp_path, lake, zoo):
    output = str(tmp_path / "scores")
    models = [zoo("model.tflite"), zoo("int8.tflite")]
    assert score_batch.main(options_of(lake, models[0], output)) == 0
    done = threading.Event()
    seen: collections.Counter[tuple[str, ...]] = collections.Counter()
    wrong: list[object] = []

    def read():
        while not done.is_set():
            rows = read_scores(output)
            held = rows.group_by("date").aggregate(
                [("model_digest", "count_distinct"), ("model_digest", "min")]
            )
            if sorted(rows["id"].to_pylist()) != list(range(DAYS * ROWS)):
                wrong.append(rows)
            if set(held["model_digest_count_distinct"].to_pylist()) != {1}:
                wrong.append(held)
            seen[tuple(held.sort_by("date")["model_digest_min"].to_pylist())] += 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(6):
            model = models[(turn + 1) % 2]
            assert score_batch.main(options_of(lake, model, output, "--reprocess=all")) == 0
    finally:
        done.set()
        reader.join()
    assert not wrong
    assert len(seen) > 1, "the reader saw one state only, so this showed nothing"
