"""A load test of a batch: from its profile to its result."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scoreline.lake.files.dataset import list_dataset
from scoreline.lake.files.partitions import Partition, newest
from scoreline.pipelines.load_test.batch_method import REPEATS, run_batches
from scoreline.pipelines.load_test.batch_result import to_result
from scoreline.pipelines.load_test.budget import Budget
from scoreline.pipelines.load_test.driver.batch import BatchDriver, BatchSubject
from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.result import LoadTest
from scoreline.pipelines.load_test.tested import settings_of, without_flags
from scoreline.pipelines.options.problems import BadOptions

# The load test sets these flags for each run.
_OWN = ("--input", "--partitions", "--last")


def run_batch_test(
    profile: Profile, folder: Path, budget: Budget, began: dt.datetime, say: Callable[[str], None]
) -> LoadTest:
    """Run a load test of a batch.

    Raises:
      BadOptions: the input cannot be listed or copied, or the command fails.
    """
    dataset = settings_of("batch", profile.argv).dataset
    partitions = _list(dataset)
    subject = BatchSubject(
        root=dataset.root,
        partitions=partitions,
        argv=without_flags(profile.argv, _OWN),
    )
    with BatchDriver(subject, folder) as driver:
        found = run_batches(
            driver,
            volumes=profile.volumes,
            workers=profile.workers,
            repeats=REPEATS[profile.precision],
            budget=budget,
            say=say,
        )
    return to_result(profile, found, len(partitions), budget.cut, began)


def _list(dataset: Any) -> tuple[Partition, ...]:
    """Return the partitions that the command would score.

    Raises:
      BadOptions: the dataset cannot be listed, or none of them can be scored.
    """
    try:
        listing = list_dataset(dataset.root, dataset.partitions)
    except (OSError, ValueError) as e:
        raise BadOptions([f"--input: cannot list {dataset.root}: {e}"]) from e
    found = listing.partitions
    if dataset.last is not None:
        found = newest(found, dataset.last)
    good = tuple(partition for partition in found if partition.files and not partition.problems)
    if not good:
        problems = [*listing.problems, *(text for each in found for text in each.problems)]
        raise BadOptions(problems or [f"--input: expected partitions with files at {dataset.root}"])
    return good
