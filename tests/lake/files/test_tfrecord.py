from __future__ import annotations

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scoreline.lake.files.data_file import CorruptFile
from scoreline.lake.files.tfrecord import read_records
from tests.inputs import frame

RECORDS = st.lists(st.binary(max_size=200) | st.just(b"x" * 70_000), max_size=8)


class Trickle(io.BytesIO):
    """A stream that returns fewer bytes than requested."""

    def read(self, size=-1):
        return super().read(min(size, 7))


@settings(deadline=None)
@given(records=RECORDS, stream=st.sampled_from([io.BytesIO, Trickle]))
def test_framing_gives_every_record_back_and_where_it_begins(records, stream):
    data = b"".join(map(frame, records))
    found = list(read_records(stream(data)))
    assert [record.data for record in found] == records
    for record in found:
        assert data[record.offset :].startswith(frame(record.data))


@settings(deadline=None)
@given(records=st.lists(st.binary(max_size=30), min_size=1, max_size=5), data=st.data())
def test_truncation_is_found_and_names_the_byte_of_the_record(records, data):
    frames = [frame(record) for record in records]
    whole = b"".join(frames)
    cut = data.draw(st.integers(1, len(whole) - 1))
    starts = [sum(map(len, frames[:i])) for i in range(len(frames))]
    if cut in starts:
        assert len(list(read_records(io.BytesIO(whole[:cut])))) == starts.index(cut)
        return
    broken = max(start for start in starts if start < cut)
    with pytest.raises(CorruptFile, match=rf"it ends within .* at byte {broken}\Z"):
        list(read_records(io.BytesIO(whole[:cut])))


@settings(deadline=None)
@given(
    records=st.lists(st.binary(max_size=30), min_size=1, max_size=5),
    at=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
@example(records=[b"abc", b"def"], at=19 + 3, bit=7)
def test_any_flipped_bit_is_found_and_names_the_byte_of_its_record(records, at, bit):
    frames = [frame(record) for record in records]
    spoiled = bytearray(b"".join(frames))
    at %= len(spoiled)
    spoiled[at] ^= 1 << bit
    starts = [sum(map(len, frames[:i])) for i in range(len(frames))]
    broken = max(start for start in starts if start <= at)
    with pytest.raises(CorruptFile, match=rf"checksum of .* at byte {broken} is wrong"):
        list(read_records(io.BytesIO(bytes(spoiled))))


def test_checksums_are_those_of_tensorflow(tmp_path):
    from scoreline.models.runtimes.tensorflow import import_tensorflow

    tf = import_tensorflow()
    records = [b"", b"a", bytes(range(256)) * 9]
    with tf.io.TFRecordWriter(str(tmp_path / "0.tfrecord")) as writer:
        for record in records:
            writer.write(record)
    assert (tmp_path / "0.tfrecord").read_bytes() == b"".join(map(frame, records))
