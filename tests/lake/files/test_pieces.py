"""Pieces of text become record batches: no row is lost, and none is too large."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from scoreline.lake.files.pieces import Piece, join_pieces

MB = 1 << 20


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5 * MB))), st.integers(1, 600))
def test_rows_keep_their_order_and_batches_their_size(sizes, max_bytes):
    pieces, rows = [], 0
    for count, text_bytes in sizes:
        table = pa.table({"n": pa.array(range(rows, rows + count), pa.int64())})
        pieces.append(Piece(table, text_bytes))
        rows += count
    batches = list(join_pieces(pieces, max_bytes))
    assert [n for batch in batches for n in batch["n"].to_pylist()] == list(range(rows))
    largest = max((piece.table.nbytes for piece in pieces), default=0)
    assert all(batch.nbytes <= max(max_bytes, largest) for batch in batches)


def test_pieces_of_a_megabyte_become_batches_of_four():
    table = pa.table({"n": [1, 2, 3]})
    batches = list(join_pieces([Piece(table, MB)] * 10, 1 << 30))
    assert [batch.num_rows for batch in batches] == [12, 12, 6]
    assert list(join_pieces([], 1 << 30)) == []
