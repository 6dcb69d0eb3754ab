"""Shard → record batches, for every file format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from scoreline.lake.elements import Shard
from scoreline.lake.files.data_file import Limits, ReadSpec
from scoreline.lake.files.formats import FORMATS
from scoreline.lake.files.missing import Constant, add_constants
from scoreline.lake.files.types import cast_columns


class DatasetSpec(NamedTuple):
    """The path of a dataset, and the form of its record batches.

    Attributes:
      root: the dataset's path or URI; only its file system matters here.
      format: the format of all files, one of `formats.FORMATS`.
      columns: the columns to read; `parent.child` reads that field of a struct column.
      top_columns: the top-level columns of these paths, in the same order.
      batch_rows: maximum rows of a record batch.
      dictionary_columns: string columns of Parquet to read as dictionaries.
      schema: the types to read columns with; None for files that have types.
      constants: columns to add to files that lack them; partition columns replace those of files.
      limits: maximum bytes of one value and of one record batch, decoded.
      csv_escape: the character that escapes quotation marks of CSV; "" if they are doubled.
      is_inferred: whether the schema was inferred from samples of text.
      stored: keys and kept columns, whose values a table must be able to hold.
      casts: the types to read columns as whose types differ between files.
      stage_times: the folder that readers record stage times in; "" for none.
      repeats_first: whether the first record batch of a shard is repeated for all its rows.
    """

    root: str
    format: str
    columns: Sequence[str]
    top_columns: Sequence[str]
    batch_rows: int
    dictionary_columns: Sequence[str] = ()
    schema: pa.Schema | None = None
    constants: Sequence[Constant] = ()
    limits: Limits = Limits()
    csv_escape: str = ""
    is_inferred: bool = False
    stored: Sequence[str] = ()
    casts: Mapping[str, pa.DataType] = {}
    stage_times: str = ""
    repeats_first: bool = False


def read_shard(
    file_system: fs.FileSystem, shard: Shard, dataset: DatasetSpec
) -> Iterator[pa.RecordBatch]:
    """Yield a shard's rows in order, in record batches of at most `batch_rows` rows, none empty.

    Raises:
      CorruptFile: a file cannot be read, or has changed since the shard was made.
    """
    replaced = {c.column for c in dataset.constants if c.is_partition}
    columns = [column for column in dataset.columns if column not in replaced]
    schema = dataset.schema or pa.schema([])
    unseen = [c for c in dataset.constants if not c.is_partition and c.column not in schema.names]
    spec = ReadSpec(
        columns=columns or dataset.columns,  # a reader needs one column to count rows
        batch_rows=dataset.batch_rows,
        may_lack=[constant.column for constant in dataset.constants],
        dictionary_columns=dataset.dictionary_columns,
        schema=schema,
        unseen=pa.schema([(constant.column, constant.data_type) for constant in unseen]),
        limits=dataset.limits,
        csv_escape=dataset.csv_escape,
        is_inferred=dataset.is_inferred,
        stored=dataset.stored,
    )
    batches = FORMATS[dataset.format].read(file_system, shard, spec)
    values = {c.column: c.value_in(shard.partition) for c in dataset.constants}
    for batch in batches:
        if dataset.casts:
            batch = cast_columns(batch, dataset.casts)
        yield (add_constants(batch, dataset.top_columns, values, replaced) if values else batch)
