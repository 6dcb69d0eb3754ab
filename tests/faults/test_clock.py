"""The clock is set back between two runs, so the state of the first run is in the future.

All times of the first run move 30 days ahead: in the log, of files and of folders.
"""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from deltalake import DeltaTable

from scoreline.pipelines import score_batch, table
from tests.fakes import (
    assert_scored_whole,
    make_rows,
    read_scores,
    score_counted,
    write_file,
    write_lake,
)
from tests.processes import run_to_death

MONTH_S = 30 * 24 * 3600
TIMES = ("timestamp", "modificationTime", "deletionTimestamp", "createdTime")


def set_ahead(root):
    """Change the times of everything in a folder to a month from now."""
    for path in sorted(root.rglob("*")):
        if path.parent.name == "_delta_log" and path.suffix == ".json":
            lines = map(json.loads, path.read_text().splitlines())
            path.write_text("".join(json.dumps(_shift(line)) + "\n" for line in lines))
        then = path.stat().st_mtime + MONTH_S
        os.utime(path, (then, then))
        assert path.stat().st_mtime > time.time() + MONTH_S / 2


def _shift(value):
    if not isinstance(value, dict):
        return value
    return {
        name: held + MONTH_S * 1000 if name in TIMES and held else _shift(held)
        for name, held in value.items()
    }


@pytest.fixture
def scored(tmp_path, model, capsys):
    """A lake, its table from before the clock was set back, and a function that scores it."""
    lake = write_lake(tmp_path / "lake")
    output = tmp_path / "scores"
    options = [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={output}"]
    assert score_batch.main(options) == 0
    for root in (tmp_path / "lake", output):
        set_ahead(root)
    return lake, output, options


def manage(command, output, *flags):
    return table.main([command, f"--output={output}", *flags])


def test_times_that_go_backwards_break_no_command(scored, tmp_path, capsys):
    lake, output, options = scored
    before = DeltaTable(str(output)).version()
    assert score_batch.main([*options, "--reprocess=none"]) == 0
    # The input's files count as changed, like after any other change of their times.
    write_file(tmp_path / "lake", "date=2024-01-02", "0.parquet", make_rows(300, 150))
    capsys.readouterr()
    assert manage("status", output, f"--input={lake}") == 0
    assert "stale" in capsys.readouterr().out
    assert score_batch.main([*options, "--reprocess=stale"]) == 0
    assert_scored_whole(lake, output)

    times = [commit["timestamp"] for commit in DeltaTable(str(output)).history()]
    assert times != sorted(times, reverse=True), "the commits' times do not go backwards"
    capsys.readouterr()
    assert manage("history", output) == 0
    told = capsys.readouterr().out
    now = DeltaTable(str(output)).version()
    assert told.index(f"{now} ") < told.index(f"{before} ")
    assert manage("verify", output) == 0

    assert manage("rollback", output, f"--version={before}", "--partitions=date=2024-01-02") == 0
    assert manage("rollback", output, f"--version={now}") == 0
    assert_scored_whole(lake, output)
    assert manage("vacuum", output, "--keep_hours=1", "--apply") == 0
    assert_scored_whole(lake, output)
    assert manage("verify", output) == 0
    assert manage("rollback", output, "--version=3", "--partitions=date=2024-01-02") == 0
    assert read_scores(output).num_rows == 900


@pytest.mark.slow
def test_shards_staged_in_the_future_are_reused_like_others(tmp_path, model, capsys):
    lake = write_lake(tmp_path / "lake")
    output = tmp_path / "scores"
    options = [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={output}"]
    assert run_to_death("gathered", "batch", *options).code == -signal.SIGKILL
    receipts = list((output / "_scoreline" / "receipts").glob("*/*.json"))
    assert receipts
    set_ahead(output)
    code, counters = score_counted(options)
    assert (code, counters.get("rows_read", 0)) == (0, 0)
    assert_scored_whole(lake, output)
    assert manage("verify", output) == 0
