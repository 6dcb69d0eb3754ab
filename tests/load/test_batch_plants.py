"""Whole load tests of batches with something planted: `make load-plants` on a quiet machine."""

import pytest

from scoreline.lake.files.dataset import list_dataset
from scoreline.pipelines.load_test.batch_method import run_batches
from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.driver.batch import BatchDriver, BatchSubject
from tests.fakes import write_lake

pytestmark = [pytest.mark.load, pytest.mark.timeout(3600)]
# Each Python process imports a module of this name when it starts.
SLOW_COMMITS = """
import time
from deltalake import DeltaTable

write = DeltaTable.create_write_transaction

def write_slowly(table, actions, *args, **kwargs):
    files = len(actions) + len(table.file_uris())
    time.sleep(files**2 * 3e-3)
    return write(table, actions, *args, **kwargs)

DeltaTable.create_write_transaction = write_slowly
"""


def test_commits_that_grow_with_the_files_grow_with_the_volume(tmp_path, model_flag, monkeypatch):
    """A catalogue compares each new file with all others: 3 ms for each pair."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SLOW_COMMITS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=":")
    root = write_lake(tmp_path / "lake", days=4, rows=4000, files=4)
    partitions = tuple(list_dataset(root, ()).partitions)
    subject = BatchSubject(
        root=root, partitions=partitions, argv=(model_flag("quick"), "--keys=id")
    )
    with BatchDriver(subject, tmp_path / "driver") as driver:
        found = run_batches(
            driver,
            volumes=(1, 4, 16),
            workers=(1,),
            repeats=3,
            budget=Budget(None),
            say=lambda text: print(text, flush=True),
        )
    print(found.volume, found.bottleneck)
    assert found.volume.growing_stage == "commit"
    assert found.volume.exponent.low > 1.1
    assert found.volume.growth > 1  # ten times the rows double the cost of a row
    assert (found.bottleneck.stage, found.bottleneck.kind) == ("commit", "sink")
    assert found.bottleneck.confirmed
