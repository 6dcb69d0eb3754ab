"""The commit itself goes wrong: its answer is lost, the disk is full."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from scoreline.lake.table import commit
from scoreline.pipelines import table
from tests.fakes import read_scores

ROWS, DAYS = 900, 3


def check(output):
    assert sorted(read_scores(output)["id"].to_pylist()) == list(range(ROWS))
    assert DeltaTable(str(output)).version() == DAYS, "one commit for each partition"
    assert table.main(["verify", f"--output={output}"]) == 0


def fill(path):
    with path.open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 512)


@pytest.mark.parametrize(("error", "code"), [(CommitFailedError, 0), (DeltaError, 1), (OSError, 1)])
def test_a_commit_whose_answer_is_lost_is_not_made_twice(score, tmp_path, monkeypatch, error, code):
    real = DeltaTable.create_write_transaction

    def lose_answer(*args, **kwargs):
        real(*args, **kwargs)
        raise error("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", lose_answer)
        ended = score()
    assert ended.code == code, ended
    again = score()
    assert again.code == 0, again
    assert "Nothing is left to do" in again.out
    check(tmp_path / "scores")


def test_a_disk_that_is_full_at_the_commit_fails_it_and_a_rerun_completes_it(
    score, small_disk, monkeypatch
):
    output, filler = small_disk / "scores", small_disk / "filler"
    real = commit._commit

    def fill_then_commit(*args):
        with pytest.raises(OSError, match="No space left"):
            fill(filler)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(commit, "_commit", fill_then_commit)
        ended = score(output=output, workers=1)
    assert ended.code == 1, ended
    assert "No space left" in ended.out + ended.err
    filler.unlink()
    again = score(output=output)
    assert again.code == 0, again
    check(output)
