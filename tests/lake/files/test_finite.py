from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow import fs

from scoreline.lake.files.data_file import CorruptFile, ReadSpec
from scoreline.lake.files.finite import find_not_finite
from scoreline.lake.files.jsonl import read_jsonl
from tests.inputs import write_bytes

FLOATS = pa.list_(pa.struct([("y", pa.float32()), ("n", pa.int64())]))


@pytest.mark.parametrize(
    ("kind", "good", "bad", "path"),
    [
        (pa.float32(), [1.0, None], float("inf"), "v"),
        (pa.float64(), [1.0, None], float("nan"), "v"),
        (pa.list_(pa.float32()), [[1.0, None], None], [float("-inf")], "v"),
        (pa.large_list(pa.list_(pa.float64())), [[[1.0]], [None]], [[float("nan")]], "v"),
        (pa.struct([("y", pa.float32())]), [{"y": 1.0}, None], {"y": float("inf")}, "v.y"),
        (FLOATS, [[{"y": 1.0}], [None]], [{"y": float("inf")}], "v.y"),
    ],
    ids=["float", "double", "list", "matrix", "struct", "list_of_structs"],
)
def test_infinity_and_nan_are_found_at_any_depth(kind, good, bad, path):
    schema = pa.schema([("n", pa.int64()), ("v", kind)])
    sound = pa.table([[1] * len(good), pa.array(good, kind)], schema)
    assert find_not_finite(sound) == ""
    assert find_not_finite(sound.slice(0, 0)) == ""
    spoiled = pa.table([[1] * (len(good) + 1), pa.array([*good, bad], kind)], schema)
    assert find_not_finite(spoiled).startswith(f"column '{path}': expected a number that ")


def test_a_line_with_a_number_beyond_float32_is_named(tmp_path):
    path = write_bytes(tmp_path / "0.jsonl", b'{"v": 1}\n{"v": 2}\n{"v": 3.5e38}\n')
    spec = ReadSpec(["v"], 10, schema=pa.schema([("v", pa.float32())]))
    with pytest.raises(CorruptFile, match=r"line 3: column 'v': expected a number that float hol"):
        list(read_jsonl(fs.LocalFileSystem(), str(path), spec))
