"""Commits whose response is lost."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from scoreline.lake.table.log import read_commits
from scoreline.pipelines import table
from tests.fakes import read_scores

ROWS, DAYS = 900, 3


def check(output):
    assert sorted(read_scores(output)["id"].to_pylist()) == list(range(ROWS))
    commits = [c for c in read_commits(DeltaTable(str(output))) if "partition" in c]
    assert len(commits) == DAYS, "one commit for each partition"
    assert table.main(["verify", f"--output={output}"]) == 0


@pytest.mark.parametrize("error", [CommitFailedError, DeltaError, OSError])
def test_a_commit_whose_answer_is_lost_is_not_made_twice(score, tmp_path, monkeypatch, error):
    real = DeltaTable.create_write_transaction

    def lose_answer(*args, **kwargs):
        real(*args, **kwargs)
        raise error("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", lose_answer)
        ended = score()
    assert ended.code == 0, ended
    again = score()
    assert again.code == 0, again
    assert "Nothing is left to do" in again.out
    check(tmp_path / "scores")
