"""Footers are read in Python like by Arrow, and damaged bytes raise nothing but our errors."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from scoreline.lake.files.footer import find_encrypted, read_chunks, read_tail
from scoreline.lake.files.parquet import read_footer

_TABLE = pa.table(
    {
        "id": range(50),
        "s": [f"{i % 7}" for i in range(50)],
        "l": [[1.0] * (i % 3) for i in range(50)],
        "m": pa.array([[("k", i)] for i in range(50)], pa.map_(pa.string(), pa.int64())),
        "t": [{"a": i, "b": [f"{i}"]} for i in range(50)],
    }
)


def written(**options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_TABLE, sink, **options)
    return sink.getvalue()


def tail_of(data: bytes) -> bytes:
    return read_tail(pa.BufferReader(data))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_group_size": 7},
        {"use_dictionary": False, "data_page_version": "2.0", "write_page_index": True},
        {"use_dictionary": False, "column_encoding": {"id": "DELTA_BINARY_PACKED"}},
        {"write_statistics": False, "store_schema": False},
    ],
    ids=["plain", "row-groups", "page-index", "encodings", "without-statistics"],
)
def test_facts_about_column_chunks_are_those_that_arrow_gives(options):
    data = written(**options)
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    groups, leaves = range(metadata.num_row_groups), range(metadata.num_columns)
    found = read_chunks(tail_of(data), groups, leaves)
    for group in groups:
        for leaf in leaves:
            wanted = metadata.row_group(group).column(leaf)
            chunk = found[group][leaf]
            assert chunk.values == wanted.num_values
            assert chunk.size_bytes == wanted.total_uncompressed_size
            assert chunk.encodings == set(wanted.encodings)
    last = read_chunks(tail_of(data), [groups[-1]], [leaves[-1]])
    assert last == {groups[-1]: {leaves[-1]: found[groups[-1]][leaves[-1]]}}
    assert find_encrypted(tail_of(data)) is None


_SOUND = written(row_group_size=20)


@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(_SOUND)), st.binary(max_size=12), st.integers(0, 12)),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_footer_raises_our_errors_only(edits):
    damaged = _SOUND
    for at, inserted, removed in edits:
        damaged = damaged[:at] + inserted + damaged[at + removed :]
    try:
        tail = tail_of(damaged)
        find_encrypted(tail)
        for chunks in read_chunks(tail, range(3), [0, 3]).values():
            assert set(chunks) == {0, 3}
    except ValueError as e:
        assert str(e)  # noqa: PT017


@given(content=st.binary(max_size=400))
def test_any_bytes_as_a_footer_raise_our_errors_only(content):
    tail = content + len(content).to_bytes(4, "little") + b"PAR1"
    find_encrypted(tail)
    with pytest.raises(ValueError, match="footer"):
        read_chunks(tail, [0], [0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got 0 bytes that end in b''"),
        (b"PAR1", "got 4 bytes that end in b'PAR1'"),
        (b"id,x\n1,2.5\n3,4.5\n", "expected a Parquet file, which ends in PAR1, got 17 bytes"),
        (
            b"PAR1" + b"\xff" * 4 + b"PAR1",
            "expected a footer within its 12 bytes, got one of 4",
        ),
        (_SOUND[: len(_SOUND) // 2], "It is cut off, or another kind of file"),
        (_SOUND[:-8] + b"\0" * 9 + (9).to_bytes(4, "little") + b"PAR1", "cannot be read"),
    ],
    ids=["empty", "magic-only", "text", "huge-footer", "half", "zeros"],
)
def test_files_without_a_whole_footer_are_named(tmp_path, content, message):
    path = tmp_path / "0.parquet"
    path.write_bytes(content)
    error = read_footer(fs.LocalFileSystem(), str(path)).error
    assert error.startswith(f"file {path} cannot be read: ")
    assert message in error


def test_a_footer_longer_than_one_read_is_read_whole(tmp_path):
    path = tmp_path / "0.parquet"
    table = pa.table({f"column {i}": [1] for i in range(2000)})
    pq.write_table(table, path)
    data = path.read_bytes()
    assert int.from_bytes(data[-8:-4], "little") > 64 << 10
    assert read_footer(fs.LocalFileSystem(), str(path)).schema.names == table.column_names
    assert read_chunks(tail_of(data), [0], [1999])[0][1999].values == 1


def _nested_footer(levels: int, repetition: int) -> bytes:
    """Return a file without rows whose only column nests some levels deep."""

    def number(value: int) -> bytes:
        low = bytes([value & 127 | 128]) if value > 127 else bytes([value])
        return low + number(value >> 7) if value > 127 else low

    root = b"\x48\x01s\x15\x02\x00"  # named s, with one child
    group = b"\x35" + number(repetition << 1) + b"\x18\x01a\x15\x02\x00"
    leaf = b"\x15\x02\x25\x02\x18\x01x\x00"  # an optional INT32 named x
    schema = b"\x19\xfc" + number(levels + 2) + root + group * levels + leaf
    footer = b"\x15\x02" + schema + b"\x16\x00\x19\x0c\x00"  # no rows, no row groups
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("repetition", [1, 2], ids=["structs", "lists"])
@pytest.mark.parametrize("levels", [150, 2400, 2600, 200_000])
def test_columns_that_nest_too_deep_are_an_error_instead_of_a_stack_overflow(
    tmp_path, levels, repetition
):
    """Regression: SIGSEGV. Arrow recurses once for each level."""
    path = tmp_path / "0.parquet"
    path.write_bytes(_nested_footer(levels, repetition))
    error = read_footer(fs.LocalFileSystem(), str(path)).error
    assert "cannot be read: expected columns of at most 100 levels, got more" in error
    path.write_bytes(_nested_footer(20, repetition))
    assert not read_footer(fs.LocalFileSystem(), str(path)).error
