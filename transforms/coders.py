"""Coders of the elements between steps.

The tuples of `lake/elements.py` are rows (`RowCoder`). Record batches are encoded as Arrow IPC:
Beam would pickle them, and a pickled slice of 10 rows includes its whole parent. The import of this
module registers the coders and does nothing else.
"""

import pyarrow as pa
from apache_beam import coders

from scoreline.lake.elements import BatchKey, Outcome, Piece, Reading, Receipt, RecordKey, Shard


class RecordBatchCoder(coders.Coder):
    """Encodes a record batch as an Arrow IPC stream; a slice takes only its own size."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        """Return the batch's schema and rows as one IPC stream."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_batch(value)
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Return the decoded batch."""
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """Return the size in memory, because Beam samples sizes and should not encode to do so."""
        return value.nbytes

    def is_deterministic(self) -> bool:
        """Return False: equal batches may differ in the layout of their dictionaries."""
        return False

    def to_type_hint(self) -> type:
        """Return the type that this coder encodes."""
        return pa.RecordBatch


coders.registry.register_coder(pa.RecordBatch, RecordBatchCoder)
for _row_type in (Piece, Shard, BatchKey, Reading, RecordKey, Receipt, Outcome):
    coders.registry.register_coder(_row_type, coders.RowCoder)
