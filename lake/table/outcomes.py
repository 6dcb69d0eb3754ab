"""How each partition ended: for the launcher of a job, and for the next run."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable

from pyarrow import fs

from scoreline.lake.elements import Outcome
from scoreline.lake.storage import list_folder, resolve, write_whole
from scoreline.lake.table.layout import failures_folder, outcomes_folder


def record_outcomes(output: str, outcomes: Iterable[Outcome]) -> None:
    """Keep the reasons of partitions that failed, and remove those of partitions that did not."""
    file_system, root = resolve(output)
    there = {info.base_name for info in list_folder(file_system, failures_folder(root))}
    for outcome in outcomes:
        name = f"{hashlib.sha256(outcome.partition.encode()).hexdigest()[:24]}.json"
        path = f"{failures_folder(root)}/{name}"
        if outcome.state in ("failed", "conflict"):
            failure = {"partition": outcome.partition, "reason": outcome.reason}
            write_whole(file_system, path, json.dumps(failure).encode())
        elif name in there:
            with contextlib.suppress(FileNotFoundError):  # another run has removed it
                file_system.delete_file(path)


def read_failures(output: str) -> dict[str, str]:
    """Return the reason of the last attempt at each partition that failed."""
    file_system, root = resolve(output)
    failures = {}
    for info in list_folder(file_system, failures_folder(root)):
        if info.type == fs.FileType.File and not info.base_name.startswith("."):
            with (
                contextlib.suppress(FileNotFoundError),  # another run has removed it
                file_system.open_input_stream(info.path) as stream,
            ):
                failure = json.loads(stream.readall())
                failures[failure["partition"]] = failure["reason"]
    return failures


def _locate(output: str, job_id: str) -> tuple[fs.FileSystem, str]:
    file_system, root = resolve(output)
    return file_system, outcomes_folder(root, job_id)


def write_outcome(output: str, job_id: str, outcome: Outcome) -> None:
    """Write a partition's outcome; a retry overwrites the same file."""
    file_system, folder = _locate(output, job_id)
    file_system.create_dir(folder, recursive=True)
    name = hashlib.sha256(outcome.partition.encode()).hexdigest()[:24]
    with file_system.open_output_stream(f"{folder}/{name}.json") as stream:
        stream.write(json.dumps(outcome._asdict()).encode())


def take_outcomes(output: str, job_id: str) -> list[Outcome]:
    """Return a job's outcomes, sorted by partition, and remove their files."""
    file_system, folder = _locate(output, job_id)
    outcomes = []
    for info in list_folder(file_system, folder):
        with file_system.open_input_stream(info.path) as stream:
            outcomes.append(Outcome(**json.loads(stream.readall())))
    if outcomes:
        file_system.delete_dir(folder)
    return sorted(outcomes)
