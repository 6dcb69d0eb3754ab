from __future__ import annotations

import collections

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.lake.elements import Receipt
from scoreline.lake.table.duplicates import count_duplicate_keys

FILES = st.lists(st.lists(st.integers(-3, 6), max_size=8), min_size=1, max_size=3)


def stage(folder, columns, files):
    """Write one staged file per list of rows; return receipts without claims about order."""
    receipts = []
    for number, table in enumerate(files):
        path = f"{number}.parquet"
        pq.write_table(table, f"{folder}/{path}")
        receipts.append(Receipt("", "", "", number, 1, path, rows_scored=table.num_rows))
    return count_duplicate_keys(str(folder), columns, receipts)


def expected(rows):
    return sum(count - 1 for count in collections.Counter(rows).values())


@given(files=FILES)
def test_integer_keys_in_any_order(tmp_path_factory, files):
    tables = [pa.table({"id": pa.array(rows, pa.int32())}) for rows in files]
    found = stage(tmp_path_factory.mktemp("staged"), ["id"], tables)
    assert found == expected([row for rows in files for row in rows])


@pytest.mark.parametrize("values", [[1, None, None, 2, 1], ["a", "b", "a", None, ""]])
def test_keys_with_nulls_and_strings(tmp_path, values):
    assert stage(tmp_path, ["id"], [pa.table({"id": values})]) == expected(values)


def test_two_keys_repeat_only_together(tmp_path):
    table = pa.table({"a": [1, 1, 2, 1], "b": ["x", "y", "x", "x"]})
    assert stage(tmp_path, ["a", "b"], [table]) == 1
