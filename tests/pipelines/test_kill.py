"""After a kill of a real process, readers never see half a day, and a rerun completes it."""

from __future__ import annotations

import signal

import pytest
from deltalake import DeltaTable

from scoreline.lake.table.log import read_commits
from scoreline.pipelines import score_batch
from tests.fakes import assert_scored_whole, read_scores, write_lake
from tests.processes import run_to_death

pytestmark = pytest.mark.slow

POINTS = {  # and the number of published partitions when the process dies there
    "written:2": 0,
    "gathered": 0,
    "letters_published:3": 0,
    "committed": 3,  # all share a transaction
    "job_done": 3,
}


def arguments(lake, model, output):
    return [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={output}"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_run_published_whole_partitions_only_and_a_rerun_completes_the_table(
    tmp_path, model, point
):
    lake = write_lake(tmp_path / "lake", days=3)
    output = tmp_path / "scores"
    killed = run_to_death(point, "batch", *arguments(lake, model, output), "--workers=1")
    assert killed.code == -signal.SIGKILL, killed.err
    half = read_scores(output)
    assert half.num_rows == 300 * POINTS[point]
    assert half["date"].value_counts().field("counts").to_pylist() == [300] * (half.num_rows // 300)

    assert score_batch.main(arguments(lake, model, output)) == 0
    assert_scored_whole(lake, output)
    commits = read_commits(DeltaTable(str(output)))
    partitions = [commit["partition"] for commit in commits if "partition" in commit]
    assert sorted(partitions) == [f"date=2024-01-0{day}" for day in (1, 2, 3)]
