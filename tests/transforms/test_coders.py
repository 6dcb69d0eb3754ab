from __future__ import annotations

import pyarrow as pa
from apache_beam import coders
from hypothesis import given

from scoreline.lake.elements import BatchKey, Outcome, Piece, Reading, Receipt, RecordKey, Shard
from scoreline.transforms.coders import RecordBatchCoder
from tests.strategies import record_batches

SHARD = Shard("date=1", "0" * 15, "", 0, 1, [Piece("a.parquet", 0, 2, 0, 10)], 10)


@given(record_batches())
def test_record_batch_survives_its_coder(batch):
    coder = coders.registry.get_coder(pa.RecordBatch)
    assert isinstance(coder, RecordBatchCoder)
    decoded = coder.decode(coder.encode(batch))
    assert decoded.schema == batch.schema
    # NaN does not equal itself, so compare the printed values.
    assert str(decoded.to_pylist()) == str(batch.to_pylist())


def test_slice_costs_its_own_size():
    batch = pa.RecordBatch.from_arrays([pa.array(range(1_000_000))], ["n"])
    coder = RecordBatchCoder()
    assert len(coder.encode(batch.slice(500, 10))) < 1000
    assert coder.estimate_size(batch.slice(500, 10)) == 80


def test_rows_survive_their_coders():
    for value in (
        SHARD,
        BatchKey(SHARD, 0, 0, 10, last=True),
        Reading("topic", 1, 2),
        RecordKey("topic", 1, are_dead=True),
        Receipt.of(SHARD, path="p", rows_in=3, keys_increase=True, first_key=-(2**62)),
        Outcome("date=1", "0" * 15, "failed", reason="disk full"),
    ):
        coder = coders.registry.get_coder(type(value))
        assert isinstance(coder, coders.RowCoder)
        assert coder.decode(coder.encode(value)) == value


def test_fields_have_types_that_java_runners_decode():
    for row_type in (Shard, BatchKey, Reading, RecordKey, Receipt, Outcome):
        coder = coders.registry.get_coder(row_type)
        assert "pythonsdk_any" not in str(coder.schema), row_type
