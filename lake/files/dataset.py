"""A partitioned dataset as a whole: its partitions, schema and batch size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
from pyarrow import fs

from scoreline.lake.files.data_file import Footer
from scoreline.lake.files.delta import is_delta_table, is_log, list_delta_partitions
from scoreline.lake.files.examples import RAW_COLUMN
from scoreline.lake.files.folders import Choose, list_partitions
from scoreline.lake.files.formats import format_of
from scoreline.lake.files.partitions import Listing, Partition, PartitionSpec
from scoreline.lake.storage import resolve

# A schema is inferred from the first file of each of this many partitions.
SAMPLED_PARTITIONS = 16
MAX_BATCH_ROWS = 65_536
_BATCH_BYTES = 64 << 20


def list_dataset(
    path: str, specs: Sequence[PartitionSpec], choose: Choose | None = None
) -> Listing:
    """Return the partitions of a dataset: folders, or a Delta table's log.

    Args:
      path: the dataset.
      specs: the selection; empty for all.
      choose: returns those of the found partitions that are meant; None for all.

    Raises:
      ValueError: the URI's scheme is unknown.
      OSError: the dataset cannot be listed.
    """
    if is_delta_table(path):
        listing = list_delta_partitions(path, specs)
        return listing if choose is None else listing._replace(partitions=list(choose(listing)))
    file_system, root = resolve(path)
    if above := _find_table_above(file_system, root):
        return Listing(
            [],
            [
                f"--input: expected the Delta table {above}, got a folder in it: {path}. Files "
                "that the table has replaced are there too. Select partitions with --partitions"
            ],
        )
    return list_partitions(file_system, root, specs, choose)


def _find_table_above(file_system: fs.FileSystem, root: str) -> str:
    """Return the Delta table that a partition folder belongs to; "" if there is none."""
    above = root
    while "=" in above.rpartition("/")[2]:
        above = above.rpartition("/")[0]
    is_table = above != root and is_log(file_system, above)
    return above if is_table else ""


def infer_schema(
    file_system: fs.FileSystem,
    data_format: str,
    partitions: Iterable[Partition],
    given: pa.Schema | None = None,
    csv_escape: str = "",
) -> pa.Schema | None:
    """Return the types that all files are read with; None for files that have types.

    Types that are not given are inferred. The sample is always the same: the first file of each of
    the first `SAMPLED_PARTITIONS` that have files. For tf.Examples, the schema also has a column of
    the whole records.

    Raises:
      ValueError: the files have another format, or no single schema fits them.
    """
    infer = format_of(data_format, csv_escape).infer
    if infer is None:
        return None
    schema = infer(file_system, _sampled_paths(partitions), given)
    if data_format != "tfrecord":
        return schema
    if RAW_COLUMN in schema.names:
        raise ValueError(f"expected no feature named '{RAW_COLUMN}', which is the record itself")
    return schema.append(pa.field(RAW_COLUMN, pa.large_binary()))


def sample_columns(
    file_system: fs.FileSystem,
    data_format: str,
    partitions: Iterable[Partition],
    csv_escape: str = "",
) -> pa.Schema:
    """Return the columns that the sampled files have, whatever schema they are read with."""
    infer = format_of(data_format, csv_escape).infer
    if infer is None:
        return pa.schema([])
    try:
        return infer(file_system, _sampled_paths(partitions), None)
    except (OSError, ValueError):  # a damaged file fails its partition
        return pa.schema([])


def _sampled_paths(partitions: Iterable[Partition]) -> list[str]:
    with_files = [p for p in partitions if p.files and not p.problems]
    return [p.files[0].path for p in with_files[:SAMPLED_PARTITIONS]]


def choose_batch_rows(footers: Iterable[Footer]) -> int:
    """Return the rows of a record batch: as many of the widest rows as fit in a size limit."""
    groups = [
        size / rows
        for footer in footers
        for size, rows in zip(footer.group_bytes, footer.group_rows, strict=True)
        if rows > 0
    ]
    widest = max(groups, default=1.0)
    return int(min(MAX_BATCH_ROWS, max(1, _BATCH_BYTES // max(widest, 1.0))))
