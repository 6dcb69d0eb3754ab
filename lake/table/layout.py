"""Where things are in a scores table and beside it: the only code that makes such paths.

    <output>/date=2013-11-01/part-00000-<run id>-<crc>.parquet  data files, committed or staged
    <output>/_scoreline/receipts/<run id>/00000-scores.json     proof that a shard is staged whole
    <output>/_scoreline/<job id>/….json                         outcomes, until they are read
    <output>_dead_letters/date=2013-11-01/part-….parquet        dead letters of what is committed
    <output>_dead_letters/_staged/part-….parquet                dead letters of what is not
    <output>_dead_letters/_replaced/part-….parquet              dead letters of earlier commits

Readers of hive folders and of Delta tables skip names that begin with `_` or `.`.
"""

from __future__ import annotations

import re

_RUN_ID = re.compile(r"part-\d+-(?P<run_id>[0-9a-f]{15})-[0-9a-f]{8}\.parquet\Z")
_OWN_FOLDER = "_scoreline"
# Where dead letters wait for their partition's commit.
STAGED_FOLDER = "_staged"
# Where dead letters go when their partition is scored anew, so that a rollback can bring them back.
REPLACED_FOLDER = "_replaced"


def safe_folder(partition: str) -> str:
    """Return the folder of a partition's files in the table.

    The hive path, with `_` for what it escapes: Delta Lake takes partition values from its log, so
    the folder's name is for people only, and two partitions may share it.
    """
    return partition.replace("%", "_")


def staged_name(folder: str, shard: int, run_id: str, checksum: str) -> str:
    """Return the path of a staged file, relative to the root that its folder is in."""
    return f"{folder}/part-{shard:05d}-{run_id}-{checksum}.parquet"


def run_id_in(file: str) -> str:
    """Return the run id in the name of a data file; "" when it is none of ours."""
    match = _RUN_ID.search(file)
    return match["run_id"] if match else ""


def dead_letters_root(output: str) -> str:
    """Return where a table's dead letters are: the folder `<output>_dead_letters` beside it."""
    return output.rstrip("/") + "_dead_letters"


def own_folder(root: str) -> str:
    """Return where what is neither scores nor log is, in a table's root."""
    return f"{root}/{_OWN_FOLDER}"


def outcomes_folder(root: str, job_id: str) -> str:
    """Return where a job's outcomes are, in a table's root."""
    return f"{root}/{_OWN_FOLDER}/{job_id}"


def failures_folder(root: str) -> str:
    """Return where the reasons of failed partitions are, in a table's root."""
    return f"{root}/{_OWN_FOLDER}/failures"


def receipts_folder(root: str) -> str:
    """Return where the receipts of runs are, in a table's root: a folder for each run id."""
    return f"{root}/{_OWN_FOLDER}/receipts"
