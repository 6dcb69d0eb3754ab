"""Paths in a scores table and beside it: the only module that composes them.

    <output>/date=2013-11-01/part-00000-<run id>-<crc>.parquet  data files, committed or staged
    <output>/_scoreline/receipts/<run id>/00000-scores.json     proof that a shard is staged whole
    <output>/_scoreline/<job id>/….json                         outcomes, until they are read
    <output>/_scoreline/tracebacks/….txt                        of errors that nobody foresaw
    <output>_dead_letters/date=2013-11-01/part-….parquet        dead letters of committed scores
    <output>_dead_letters/_staged/part-….parquet                dead letters before the commit
    <output>_dead_letters/_replaced/part-….parquet              dead letters of earlier commits

Readers of hive folders and of Delta tables skip names that begin with `_` or `.`.
"""

from __future__ import annotations

import re

_DATA_FILE = re.compile(r"part-(?P<shard>\d+)-(?P<run_id>[0-9a-f]{15})-[0-9a-f]{8}\.parquet\Z")
_OWN_FOLDER = "_scoreline"
# Where dead letters wait for their partition's commit.
STAGED_FOLDER = "_staged"
# Dead letters move here when their partition is scored again; a rollback brings them back.
REPLACED_FOLDER = "_replaced"


def safe_folder(partition: str) -> str:
    """Return the folder of a partition's files in the table.

    It is the hive path with `_` in place of escapes. Delta Lake takes partition values from its
    log, so the name is for people only, and two partitions may share a folder.
    """
    return partition.replace("%", "_")


def staged_name(folder: str, shard: int, run_id: str, checksum: str) -> str:
    """Return the path of a staged file, relative to the root that its folder is in."""
    return f"{folder}/part-{shard:05d}-{run_id}-{checksum}.parquet"


def run_id_in(file: str) -> str:
    """Return the run id in the name of a data file; "" if another program named it."""
    match = _DATA_FILE.search(file)
    return match["run_id"] if match else ""


def shard_in(file: str) -> tuple[int, str] | None:
    """Return the shard and the run id in the name of a data file; None for other names."""
    match = _DATA_FILE.search(file)
    return (int(match["shard"]), match["run_id"]) if match else None


def dead_letters_root(output: str) -> str:
    """Return the location of a table's dead letters: `<output>_dead_letters` beside it."""
    return output.rstrip("/") + "_dead_letters"


def own_folder(root: str) -> str:
    """Return the folder in a table's root that holds neither scores nor log."""
    return f"{root}/{_OWN_FOLDER}"


def outcomes_folder(root: str, job_id: str) -> str:
    """Return the folder of a job's outcomes, in a table's root."""
    return f"{root}/{_OWN_FOLDER}/{job_id}"


def failures_folder(root: str) -> str:
    """Return the folder of the reasons of failed partitions, in a table's root."""
    return f"{root}/{_OWN_FOLDER}/failures"


def tracebacks_folder(root: str) -> str:
    """Return the folder of the tracebacks of unexpected errors, in a table's root."""
    return f"{root}/{_OWN_FOLDER}/tracebacks"


def receipts_folder(root: str) -> str:
    """Return the folder of receipts in a table's root, with one folder for each run id."""
    return f"{root}/{_OWN_FOLDER}/receipts"
