"""Why the last attempt at a partition failed, kept beside the table until one succeeds."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable

from pyarrow import fs

from transforms.elements import Outcome
from transforms.io.filesystems import list_folder, resolve, write_whole
from transforms.io.layout import failures_folder


def record_outcomes(output: str, outcomes: Iterable[Outcome]) -> None:
    """Keep the reasons of partitions that failed, and forget those of partitions that did not."""
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
