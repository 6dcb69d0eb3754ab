"""The disk is full while a shard is staged, or when its partition is committed.

The disk is a real tmpfs of 1 MB, mounted in a user and mount namespace, where any user may mount.
Commands run in the namespace. Tests read the disk through `/proc/<pid>/root`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from scoreline.lake.table.log import read_commits
from scoreline.pipelines import table
from tests.fakes import make_rows, read_scores, write_file
from tests.processes import end, start_command, wait_until_stopped
from tests.required import fail_or_skip

pytestmark = pytest.mark.slow


class SmallDisk:
    """A disk of 1 MB at `path`, visible only to the commands of `start`."""

    def __init__(self, path: Path, pid: int) -> None:
        self.path = path
        self.seen_from_outside = Path(f"/proc/{pid}/root{path}")
        self._enter = ["nsenter", "--user", "--mount", "--preserve-credentials", "--target", pid]

    def start(self, *args, environment=None):
        return start_command(*args, environment=environment, within=self._enter)


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    mount = f"mount -t tmpfs -o size=1m tmpfs '{path}' && echo mounted && exec cat"
    with subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as helper:
        if helper.stdout.readline() != "mounted\n":
            fail_or_skip(f"a full disk: this user cannot mount a tmpfs: {helper.stderr.read()}")
        yield SmallDisk(path, helper.pid)
        helper.communicate()  # `cat` ends with its input


def options_of(lake, model, disk):
    options = {"input": lake, "model": model, "keys": "id", "output": disk.path / "scores"}
    return ["batch", *(f"--{name}={value}" for name, value in options.items()), "--workers=1"]


def copy_table(disk, folder):
    """Return a path of the table that this process can read."""
    shutil.copytree(disk.seen_from_outside / "scores", folder / "scores")
    return folder / "scores"


def fill(path):
    with path.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        write_to_the_last_page(file)


def write_to_the_last_page(file):
    while True:
        file.write(b"x" * 512)


def test_full_disk_while_staging_publishes_what_fits_and_fails_the_rest(
    tmp_path, model, small_disk
):
    rng = np.random.default_rng(0)
    for day, rows in (("1", 100), ("2", 300_000)):
        rows = make_rows(0, rows).set_column(0, "id", pa.array(rng.integers(0, 2**60, rows)))
        write_file(tmp_path / "lake", f"date={day}", "0.parquet", rows)
    ended = end(small_disk.start(*options_of(tmp_path / "lake", model, small_disk)))
    assert ended.code == 1, ended
    assert "date=2 failed: cannot write to" in ended.out
    assert "No space left on device" in ended.out
    output = copy_table(small_disk, tmp_path)
    assert read_scores(output).num_rows == 100
    assert not list(output.rglob("*.tmp")), "hidden files are removed"


def test_a_disk_that_is_full_at_the_commit_fails_it_and_a_rerun_completes_it(
    tmp_path, lake, model, small_disk
):
    options = options_of(lake, model, small_disk)
    job = small_disk.start(*options, environment={"SCORELINE_STOP_AT": "letters_published"})
    try:
        wait_until_stopped([job], 150)
        filler = small_disk.seen_from_outside / "filler"
        fill(filler)
        psutil.Process(job.pid).resume()
        ended = end(job)
    finally:
        job.kill()
    assert ended.code == 1, ended
    assert "No space left" in ended.out + ended.err
    filler.unlink()
    again = end(small_disk.start(*options))
    assert again.code == 0, again
    output = copy_table(small_disk, tmp_path)
    assert sorted(read_scores(output)["id"].to_pylist()) == list(range(900))
    commits = [c for c in read_commits(DeltaTable(str(output))) if "partition" in c]
    assert len(commits) == 3, "one commit for each partition"
    assert table.main(["verify", f"--output={output}"]) == 0
