"""Real processes, killed or racing: the table is right, and readers never see half a day."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.fakes import assert_scored_whole, read_scores, run_command, write_lake
from tests.processes import race, run_script

# Runs the command with one function replaced; the process then dies by SIGKILL at that point.
DIES = """
import os, signal, sys
from scoreline.pipelines import score_batch
from scoreline.transforms import commit; from scoreline.lake.table import shard_writer

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

calls = 0
def die_at_second(real):
    def call(*args, **kwargs):
        global calls
        calls += 1
        return die() if calls == 2 else real(*args, **kwargs)
    return call

{replace}
sys.exit(score_batch.main(sys.argv[1:]))
"""
POINTS = {
    "while staging": "W = shard_writer.ScoresWriter; W.close = die_at_second(W.close)",
    "between stage and commit": "commit.commit_partition = die",
    "after the first commit": "commit.commit_partition = die_at_second(commit.commit_partition)",
    "before outcomes are read": "score_batch.take_outcomes = die",
}


def arguments(lake, model, output):
    return [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={output}"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_run_published_whole_partitions_only_and_a_rerun_completes_the_table(
    tmp_path, model, point
):
    lake = write_lake(tmp_path / "lake", days=3)
    output = tmp_path / "scores"
    script = DIES.format(replace=POINTS[point])
    killed = run_script(tmp_path, script, *arguments(lake, model, output), "--workers=1")
    assert killed.code == -signal.SIGKILL, killed.err
    half = read_scores(output)
    committed = {"while staging": 0, "between stage and commit": 0, "after the first commit": 1}
    assert half.num_rows == 300 * committed.get(point, 3)
    assert half["date"].value_counts().field("counts").to_pylist() == [300] * (half.num_rows // 300)

    again = run_command("scoreline", "batch", *arguments(lake, model, output))

    assert again.code == 0, again.err
    assert_scored_whole(lake, output)
    commits = DeltaTable(str(output)).history()
    partitions = [c["scoreline.partition"] for c in commits if "scoreline.partition" in c]
    assert sorted(partitions) == [f"date=2024-01-0{day}" for day in (1, 2, 3)]


def test_two_runs_at_once_commit_each_partition_once_and_the_other_says_so(tmp_path, model):
    lake = write_lake(tmp_path / "lake", days=3)
    output = tmp_path / "scores"
    ended = race(tmp_path, 2, *arguments(lake, model, output))
    assert [run.code for run in ended] == [0, 0], ended
    committed = others = 0
    for run in ended:
        line = next(line for line in run.out.splitlines() if line.startswith("partitions"))
        committed += int(line.split()[1])
        if "committed by another run" in line:
            others += int(line.split(",")[1].split()[0])
    assert (committed, others) == (3, 3)
    assert read_scores(output).num_rows == 900
    assert DeltaTable(str(output)).version() == 3
    assert not list(Path(output).rglob("*.tmp"))
