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

import os
import re
from urllib.parse import quote, unquote

# Maximum length of a folder's name on Linux and in HDFS.
MAX_NAME_BYTES = 255
_ESCAPED_BY_SPARK = re.compile(r"""[\x00-\x1f\x7f"#%'*/:=?\\{}\[\]^]""")
_NO_ROOT = re.compile(r"[\x00-\x1f\x7f#?\\]|%[0-9A-Fa-f]{2}")
_DATA_FILE = re.compile(r"part-(?P<shard>\d+)-(?P<run_id>[0-9a-f]{15})-[0-9a-f]{8}\.parquet\Z")
_OWN_FOLDER = "_scoreline"
# Where dead letters wait for their partition's commit.
STAGED_FOLDER = "_staged"
# Dead letters move here when their partition is scored again; a rollback brings them back.
REPLACED_FOLDER = "_replaced"


def partition_folder(partition: str) -> str:
    """Return the folder of a partition's files in the table, and of its dead letters.

    It is the hive path with every special character of the values escaped, as delta-rs writes it:
    readers that take partition values from paths (Polars, DuckDB) find the values of the log. The
    log escapes the path once more: `p=a%20b` is `p=a%2520b` there. Such readers do not unescape
    the names of columns: these are escaped as little as Spark does. So is a value whose folder's
    name would be too long; it may still exceed `MAX_NAME_BYTES`.
    """
    return "/".join(map(_folder_of, partition.split("/")))


def _folder_of(escaped: str) -> str:
    # deltalake's compaction does not find folders with `~`, not even its own.
    column, _, value = escaped.replace("~", "%7E").partition("=")
    name = f"{_escape_less(column)}={value}"
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"{_escape_less(column)}={_escape_less(value)}"


def _escape_less(escaped: str) -> str:
    return _ESCAPED_BY_SPARK.sub(lambda char: quote(char[0], safe=""), unquote(escaped)).replace(
        "~", "%7E"
    )


def find_name_problems(output: str, partition: str) -> list[str]:
    """Return why a table on a local disk cannot have the folder of a partition; none if it can."""
    if "://" in output:
        return []
    sizes = [len(name.encode()) for name in partition_folder(partition).split("/")]
    if max(sizes) <= MAX_NAME_BYTES:
        return []
    return [
        f"expected a partition value whose folder has a name of at most {MAX_NAME_BYTES} bytes, "
        f"got {max(sizes)} bytes. Write the output to a bucket, or shorten the value"
    ]


def find_root_problems(output: str) -> list[str]:
    """Return why a new table cannot be at a local path; none if it can.

    deltalake takes the path for a URL in places. Without its history a table has no state.
    """
    if "://" in output or not _NO_ROOT.search(os.path.abspath(output)):
        return []
    return [
        f"--output: expected a path without #, ?, backslashes, escapes such as %20 and control "
        f"characters, got {output!r}: Delta Lake would look for parts of the table elsewhere. Give "
        "another path"
    ]


def former_folder(partition: str) -> str:
    """Return the folder that Scoreline used until 0.2: with `_` in place of `%`.

    Tables still have files there. The log has their paths, but not those of dead letters.
    Partitions may share such a folder; run ids in file names distinguish them.
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
