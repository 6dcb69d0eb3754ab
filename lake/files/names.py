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
    **dict.fromkeys(("parquet", "parq", "pq"), "parquet"),
    **dict.fromkeys(("tfrecord", "tfrecords", "tfrec"), "tfrecord"),
    "csv": "csv",
    **dict.fromkeys(("jsonl", "ndjson", "json"), "jsonl"),
}
_TFRECORD = re.compile(r"(\A|[/_-])(tfrecords?|tfrec)\Z")  # without a dot: data_tfrecord
_COMPRESSED = re.compile(r"\.(gz|bz2|zst|xz|lz4|snappy|br|zip)\Z")


def file_format_of(name: str) -> str:
    """Return the format of a data file by its name; "" if the name is not one of a data file.

    Upper and lower case are alike.
    """
    plain = _plain_name(name)  # a folder may have very many files: no expression for each
    whole = plain.removesuffix(".gz")
    _, dot, ending = whole.rpartition(".")
    found = _ENDINGS.get(ending, "") if dot else ""
    if not found and "tfrec" in whole and _TFRECORD.search(whole):
        found = "tfrecord"
    # Parquet compresses its pages: a reader must begin at the end of the file.
    return "" if found == "parquet" and plain != whole else found


def is_gzip(path: str) -> bool:
    """Return whether a file's name says that it is compressed."""
    return path.casefold().endswith(".gz")


def describe_unknown(path: str) -> str:
    """Return the problem of a file whose name is not one of a data file."""
    found = _COMPRESSED.search(_plain_name(path))
    advice = f", got a {found[0]} file. Write it anew, as one of these" if found else ""
    return f"{path}: expected {KNOWN_FILES} files only{advice}"


def _plain_name(path: str) -> str:
    name = path.casefold()
    return _SHARD_NUMBER.sub("", name) if "-of-" in name else name
