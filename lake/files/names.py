"""Names of data files: the format that a name shows, and whether the file is compressed.

Writers name files in many ways: `part-0.snappy.parquet` (Spark), `data_tfrecord-00000-of-00001.gz`
(TFX), `mnist-train.tfrecord-00000-of-00001` (TFDS), `A.CSV`.
"""

from __future__ import annotations

import re

KNOWN_FILES = "*.parquet, *.tfrecord[.gz], *.csv[.gz], *.jsonl[.gz] or *.json[.gz]"
# The number of a file among several comes last, or before the suffix of compression.
_SHARD_NUMBER = re.compile(r"-\d+-of-\d+(?=(\.gz)?\Z)")
_ENDINGS = {
    "parquet": re.compile(r"\.(parquet|parq|pq)\Z"),
    "tfrecord": re.compile(r"(\A|[._-])(tfrecords?|tfrec)\Z"),
    "csv": re.compile(r"\.csv\Z"),
    "jsonl": re.compile(r"\.(jsonl|ndjson|json)\Z"),
}
# Parquet compresses its pages: a reader must begin at the end of the file.
_MAY_BE_GZIP = {"tfrecord", "csv", "jsonl"}
_COMPRESSED = re.compile(r"\.(gz|bz2|zst|xz|lz4|snappy|br|zip)\Z")


def file_format_of(name: str) -> str:
    """Return the format of a data file by its name; "" if the name is not one of a data file.

    Upper and lower case are alike.
    """
    plain = _plain_name(name)
    whole = plain.removesuffix(".gz")
    found = next((known for known, ending in _ENDINGS.items() if ending.search(whole)), "")
    return found if plain == whole or found in _MAY_BE_GZIP else ""


def is_gzip(path: str) -> bool:
    """Return whether a file's name says that it is compressed."""
    return path.casefold().endswith(".gz")


def describe_unknown(path: str) -> str:
    """Return the problem of a file whose name is not one of a data file."""
    found = _COMPRESSED.search(_plain_name(path))
    advice = f", got a {found[0]} file. Write it anew, as one of these" if found else ""
    return f"{path}: expected {KNOWN_FILES} files only{advice}"


def _plain_name(path: str) -> str:
    return _SHARD_NUMBER.sub("", path.rpartition("/")[2].casefold())
