"""The elements that steps exchange: plain tuples, without a framework.

Annotations are types here, not strings (so no `from __future__ import annotations`): Beam derives
row schemas from them, and makes a field of unknown type a pickled one, which runners in Java
cannot decode.
"""

from collections.abc import Sequence
from typing import NamedTuple

# The number of rows of a file that does not record it.
UNKNOWN_ROWS = -1


class Piece(NamedTuple):
    """A run of row groups of one file: `path` within the dataset's file system.

    A file that is read whole is one row group of `rows` = UNKNOWN_ROWS, and `size_bytes` is its
    size when the run was planned. It is 0 for row groups of a file that records its rows.
    """

    path: str
    first_row_group: int
    row_groups: int
    first_row: int
    rows: int
    size_bytes: int = 0


class Shard(NamedTuple):
    """The unit of work: the rows that one task reads, scores and stages as one file.

    Attributes:
      partition: the partition's hive path, `date=2013-11-01`.
      run_id: the identity of the work on that partition.
      base_run_id: the run id of the partition's scores when this run was planned; "" for none.
      number: this shard's number within its partition, from 0.
      shards: how many shards the partition has.
      pieces: the row groups to read, in order; none if the partition is empty. A piece of unknown
        rows is alone in its shard.
      rows: the number of rows in the pieces, or UNKNOWN_ROWS.
    """

    partition: str
    run_id: str
    base_run_id: str
    number: int
    shards: int
    pieces: Sequence[Piece]
    rows: int


class BatchKey(NamedTuple):
    """The rows of a record batch: `rows` rows of a shard, from its row `first_row` on.

    A shard's batches are numbered from 0; `last` marks the final one. A shard always has a last
    batch, which may have no rows. In that last batch, `error` is the reason why the shard could not
    be read to its end; "" if it was.
    """

    shard: Shard
    number: int
    first_row: int
    rows: int
    last: bool
    error: str = ""


class Reading(NamedTuple):
    """The unit of reading a topic: its partitions whose number is `slot` modulo `slots`."""

    topic: str
    slot: int
    slots: int

    def owns(self, partition: int) -> bool:
        """Return whether a partition is one of these."""
        return partition % self.slots == self.slot


class RecordKey(NamedTuple):
    """The records of a stream in a record batch, and whether they are dead letters.

    Attributes:
      topic: the topic that they were read from.
      slot: the number of the Reading that they are from. Each Reading has its own partitions, and
        the sink delivers the records of each slot in order.
      are_dead: whether the batch holds dead letters, which each step passes on to the sink.
    """

    topic: str
    slot: int
    are_dead: bool = False


class Receipt(NamedTuple):
    """Proof that a shard was staged completely, or the reason why it was not.

    Attributes:
      partition, run_id, base_run_id, shard, shards: copied from the Shard.
      path: the staged file, relative to the table's root; "" if there is none.
      size_bytes: its size.
      checksum: CRC32C of its bytes, 8 hex digits.
      stats: Delta Lake's statistics of the file, JSON.
      rows_in: rows read from the shard; 0 in receipts of dead letters.
      rows_scored: rows in the staged file.
      rows_dead: rows in a file of dead letters.
      keys_increase: whether the (single, integer) key grows from each row to the next.
      first_key, last_key: the shard's first and last key, if it has rows and `keys_increase`.
      error: why the shard could not be read or staged; "" if it was.
    """

    partition: str
    run_id: str
    base_run_id: str
    shard: int
    shards: int
    path: str = ""
    size_bytes: int = 0
    checksum: str = ""
    stats: str = ""
    rows_in: int = 0
    rows_scored: int = 0
    rows_dead: int = 0
    keys_increase: bool = False
    first_key: int = 0
    last_key: int = 0
    error: str = ""

    @classmethod
    def of(cls, shard: Shard, **fields: object) -> "Receipt":
        """Return a receipt for a shard."""
        identity = (shard.partition, shard.run_id, shard.base_run_id, shard.number, shard.shards)
        return cls(*identity, **fields)  # type: ignore[arg-type]


class Outcome(NamedTuple):
    """The outcome of a partition: `state` is committed, already_committed, conflict or failed.

    `version` is a version of the table that has the partition; -1 if there is none.
    """

    partition: str
    run_id: str
    state: str
    version: int = -1
    rows_in: int = 0
    rows_scored: int = 0
    rows_dead: int = 0
    duplicate_keys: int = 0
    reason: str = ""


class DeadRows(NamedTuple):
    """Rows of a record batch that could not be scored, for one reason each.

    Attributes:
      rows: their positions in the record batch, increasing.
      reasons: one reason per row.
      step: the step at which they failed, by its label.
    """

    rows: Sequence[int]
    reasons: Sequence[str]
    step: str
