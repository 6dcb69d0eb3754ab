"""A table that is open for long, and that its owner may change at any time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from scoreline.lake.storage import resolve, table_uri
from scoreline.lake.table.rules import find_rules, required_columns
from scoreline.lake.table.scores import find_table_problems
from scoreline.transforms.kafka.ending import StreamRefused

# The table's partition column. After its end, a day gets no new files and can be compacted.
SCORED_DATE = "scored_date"


def find_append_problems(table: DeltaTable, schema: pa.Schema) -> list[str]:
    """Return why rows of a schema cannot be appended to a table; none if they can."""
    return [*find_table_problems(table, schema, [SCORED_DATE]), *find_rules(table)]


class WatchedTable:
    """A Delta table, and the last commit that was seen of it.

    Delta's conflict check looks only at commits after the known version. If the table is deleted
    and created again, the known version is of another table.
    """

    def __init__(self, output: str, schema: pa.Schema) -> None:
        """Open the table, which must exist.

        Args:
          output: its path or URI.
          schema: columns and types of the files to append.
        """
        self._output, self._schema = output, schema
        self._file_system, self._root = resolve(output)
        self.delta = DeltaTable(table_uri(output))
        self._seen = self._read_commit()

    def refuse_changes(self) -> None:
        """Read the newest version, and check that it still takes the job's rows.

        A transaction on it fails if other metadata is committed at the same time.

        Raises:
          StreamRefused: the table has other columns, partitions or rules, is another table, or is
            gone.
          DeltaError, OSError: it cannot be read.
        """
        if self._seen and self._read_commit() == self._seen:
            self.delta.update_incremental()
        else:
            self._open_again()
        self._seen = self._read_commit()
        problems = find_append_problems(self.delta, self._schema)
        if problems:
            raise StreamRefused(
                f"{problems[0]}. The table was changed while the job ran. Rows that are not in it "
                "yet are read again"
            )

    def refuse_nulls(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Check that rows have values in all columns that may not be null.

        Raises:
          StreamRefused: a column has nulls that the table does not allow.
        """
        for name in required_columns(self.delta):
            if name in self._schema.names and any(b.column(name).null_count for b in batches):
                raise StreamRefused(
                    f"--output: expected values in column '{name}', which is NOT NULL in "
                    f"{self._output}, got a null. Allow nulls in the table, or give another path"
                )

    def _read_commit(self) -> str:
        """Return a digest of the newest commit that is known; "" if its file is missing."""
        path = f"{self._root}/_delta_log/{self.delta.version():020}.json"
        try:
            with self._file_system.open_input_stream(path) as file:
                return hashlib.sha256(file.read()).hexdigest()
        except FileNotFoundError:
            return ""

    def _open_again(self) -> None:
        """Open the table again, because the known commit is missing: cleaned up, or never made."""
        try:
            now = DeltaTable(table_uri(self._output))
        except TableNotFoundError as e:
            raise StreamRefused(
                f"--output: expected the table {self._output}, got none: it was deleted while the "
                "job ran. Start the job again, with --start=earliest to score all records again"
            ) from e
        known = self.delta
        if now.metadata().id != known.metadata().id or now.version() < known.version():
            raise StreamRefused(
                f"--output: expected the table {self._output} with id {known.metadata().id} at "
                f"version {known.version()} or later, got id {now.metadata().id} at version "
                f"{now.version()}: it was deleted and created again while the job ran. Start the "
                "job again, with --start=earliest to score all records again"
            )
        self.delta = now
