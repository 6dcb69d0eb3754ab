from __future__ import annotations

import pytest

from scoreline.transforms.kafka.records import take_more


@pytest.mark.parametrize(
    ("sizes", "max_rows", "max_bytes", "taken"),
    [
        ([100] * 10_000, 8192, 1 << 30, 8192),  # limited by rows
        ([100] * 300, 8192, 1 << 30, 300),  # limited by available records
        ([100] * 10_000, 8192, 60_000, 600),  # limited by bytes
        (
            [100, *[10**6] * 999],
            8192,
            4_000_000,
            129,
        ),  # after only small records, it takes too many
        ([100, *[10**6] * 999], 8192, 1 << 30, 1000),
        ([10**6] * 1000, 8192, 4_500_000, 5),
        ([10**6] * 1000, 8192, 1, 1),
        ([0] * 1000, 8192, 100, 1000),  # tombstones
        ([100] * 1000, 1, 1 << 30, 1),
    ],
)
def test_a_poll_ends_by_rows_by_bytes_or_when_nothing_is_left(sizes, max_rows, max_bytes, taken):
    first, *values = [b"x" * size for size in sizes]

    def take(count):
        chunk, values[:count] = values[:count], []
        return chunk

    assert len(take_more(take, first, max_rows, max_bytes)) == taken
    assert len(values) == len(sizes) - taken  # no record is lost
