"""Feed random columns to TensorFlow's C API, keep some results, and compare them all.

`python -m tests.fuzz.feeding ROUNDS` runs alone. To find a use of freed memory that changes
nothing, run it under an address sanitizer, with all memory from the C library:

    PYTHONMALLOC=malloc ARROW_DEFAULT_MEMORY_POOL=system ASAN_OPTIONS=detect_leaks=0 \\
      LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" \\
      python -m tests.fuzz.feeding 1000
"""

from __future__ import annotations

import gc
import random
import sys

import numpy as np
import pyarrow as pa

from scoreline.models.signature import InputColumn, TensorSpec
from scoreline.models.strings import ArrowStrings
from scoreline.models.tensors import arrow_type, numpy_type, prepare, to_values
from tests.models.capi.graph import Graph

_TEXT_TYPES = [
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view()),
]
_NUMBERS = ["bool", "bfloat16", "float16", "float32", "float64"] + [
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
]
_ROWS = (0, 1, 2, 7, 255, 256, 257, 1000)
_KEPT = 20


class Feeder:
    """Graphs of each dtype, and results of earlier rounds that must not change."""

    def __init__(self) -> None:
        self._graphs = {dtype: make_graph(dtype) for dtype in (*_NUMBERS, "string")}
        self._assigned = dict.fromkeys(self._graphs)
        self._kept = []

    def feed(self, chance: random.Random) -> str:
        """Feed one random column, and return what is wrong; "" if nothing is."""
        dtype = chance.choice(["string"] * 12 + _NUMBERS)
        column, want = draw_text(chance) if dtype == "string" else draw_numbers(chance, dtype)
        source = InputColumn(TensorSpec("x", dtype, (None,)), "x")
        values = to_values(prepare(column, source), source)
        start = chance.randint(0, len(want))
        stop = chance.randint(start, len(want))
        graph, want = self._graphs[dtype], want[start:stop]
        value = values.rows(start, stop)
        y, other, was = graph.run({"x": (value, dtype)}, ["y", "other", "was"], ["assign"])
        del value, values, column
        if chance.random() < 0.2:
            gc.collect()
        expected = [("y", y, want), ("other", other, twice(want, dtype))]
        # `was` is read before or after the assignment: the model's ops have no order.
        results = [(name, found, right) for name, found, right in expected if chance.random() < 0.9]
        problem = next((n for n, found, right in results if listed(found) != right), "")
        before = self._assigned[dtype]
        if not problem and before is not None and listed(was) not in (before, want):
            problem = "was"
        self._assigned[dtype] = want
        self._kept += results
        for name, found, right in self._kept[:-_KEPT]:
            problem = problem or (f"{name}, later" if listed(found) != right else "")
        self._kept = self._kept[-_KEPT:]
        return problem and f"{problem} of {dtype}, rows {start} to {stop} of {want[:20]}"


def make_graph(dtype: str) -> Graph:
    """Return a graph of y = x, other = x + x, and a variable that is assigned x."""
    graph = Graph().add("Placeholder", "x", dtype=dtype).add("Identity", "y", ["x"], T=dtype)
    if dtype == "string":
        graph.add("StringJoin", "other", listed=["x", "x"])
    elif dtype == "bool":
        graph.add("LogicalAnd", "other", ["x", "x"])
    else:
        graph.add("AddV2", "other", ["x", "x"], T=dtype)
    graph.add("VarHandleOp", "variable", dtype=dtype, any_shape=True)
    graph.add("AssignVariableOp", "assign", ["variable", "x"], dtype=dtype)
    graph.add("ReadVariableOp", "was", ["variable"], dtype=dtype)
    value = np.zeros(0, numpy_type(dtype))
    graph.run({"x": (value, dtype)}, [], ["assign"])
    return graph


def draw_text(chance: random.Random) -> tuple[pa.Array, list[bytes]]:
    """Return a slice of a column of strings of any type, and its values."""
    kind, rows = chance.choice(_TEXT_TYPES), chance.choice(_ROWS)
    distinct = max(1, int(rows * chance.random()))
    longest = chance.choice([0, 11, 12, 13, 22, 23, 70, 300])
    known = [chance.randbytes(chance.randint(0, longest)) for _ in range(distinct)]
    if "string" in str(kind):
        known = [text.decode("latin-1").encode() for text in known]
    values = [chance.choice(known) for _ in range(rows)]
    plain = pa.array(values, pa.binary())
    column = plain.cast(pa.string() if "string" in str(kind) else pa.binary()).cast(kind)
    if chance.random() < 0.3 and "view" not in str(kind):
        column = column.dictionary_encode()
    return cut(chance, column, values)


def draw_numbers(chance: random.Random, dtype: str) -> tuple[pa.Array, list]:
    """Return a slice of a column of numbers, and its values."""
    rows = chance.choice(_ROWS)
    kind = numpy_type(dtype)
    values = np.frombuffer(chance.randbytes(rows * 8), np.int64) % 100
    array = (values % 2 if dtype == "bool" else values).astype(kind)
    exact = array.astype(np.float32) if dtype == "bfloat16" else array
    return cut(chance, pa.array(exact, arrow_type(dtype)), exact.tolist())


def cut(chance: random.Random, column: pa.Array, values: list) -> tuple[pa.Array, list]:
    """Return the same slice of a column and of its values."""
    start = chance.choice([0, 0, 1, 13, 16]) if len(values) > 16 else 0
    return column.slice(start), values[start:]


def twice(values: list, dtype: str) -> list:
    """Return what the graph gives as `other`."""
    if dtype == "bool":
        return values
    if dtype == "string":
        return [value + value for value in values]
    kind = np.float32 if dtype == "bfloat16" else numpy_type(dtype)
    array = np.array(values, kind)
    return (array + array).tolist()


def listed(output: ArrowStrings | np.ndarray) -> list:
    """Return an output as a list."""
    if isinstance(output, ArrowStrings):
        return output.array.to_pylist()
    return (output.astype(np.float32) if output.dtype.name == "bfloat16" else output).tolist()


def main(rounds: int) -> None:
    """Run some rounds; end with the first problem."""
    feeder = Feeder()
    for number in range(rounds):
        problem = feeder.feed(random.Random(f"feeding {number}"))
        if problem:
            sys.exit(f"round {number}: {problem}")
    print(f"{rounds} rounds, all equal")


if __name__ == "__main__":
    main(int(sys.argv[1]))
