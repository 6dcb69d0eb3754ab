import gc
import os
import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import psutil
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.runtimes.capi import tensors
from scoreline.models.runtimes.capi.errors import TensorFlowError
from scoreline.models.runtimes.capi.library import load_library
from scoreline.models.runtimes.capi.tensors import DTYPE_NUMBERS, fed, new_tensor, take_outputs
from scoreline.models.signature import FITTING_TYPES, InputColumn, TensorSpec
from scoreline.models.strings import ArrowStrings, StringCodes, Strings
from scoreline.models.tensors import numpy_type, prepare, to_values
from tests.models.capi.graph import Graph, identity

# Calls under a memory bound: SCORELINE_CALLS=1000000 makes as many (`make soak`).
_CALLS = int(os.environ.get("SCORELINE_CALLS", "100000"))
_NUMBERS = sorted(set(DTYPE_NUMBERS) - {"string"})


@pytest.fixture(scope="module")
def graphs():
    """Return an identity for each dtype of numbers."""
    made = {dtype: identity(dtype) for dtype in _NUMBERS}
    yield made
    for graph in made.values():
        graph.close()


def test_all_dtypes_that_columns_fit_have_a_number():
    assert set(DTYPE_NUMBERS) == set(FITTING_TYPES)


@pytest.fixture
def held():
    """Return a function: how many owners of memory are held that this test has fed.

    Variables of other tests' models hold theirs.
    """
    gc.collect()
    before = set(tensors._held)
    return lambda: len(tensors._held.keys() - before)


@pytest.mark.parametrize("dtype", _NUMBERS)
def test_numbers_of_every_dtype_cross_both_ways(graphs, dtype):
    @given(st.lists(st.integers(0, 1), max_size=20), st.integers(0, 2), st.booleans())
    def check(bits, scalar, is_strided):
        array = np.array(bits, numpy_type(dtype))
        if is_strided:
            array = np.repeat(array, 2)[::2]
        if scalar == 1 and bits:
            array = array[:1].reshape(())
        (y,) = graphs[dtype].run({"x": (array, dtype)}, ["y"])
        assert y.dtype == array.dtype
        assert y.shape == array.shape
        assert y.tolist() == array.tolist()
        assert not y.flags.writeable

    check()


def test_booleans_come_from_arrows_bits(graphs):
    column = pa.array([True, False, True] * 30).slice(5)
    source = InputColumn(TensorSpec("x", "bool", (None,)), "x")
    value = to_values(prepare(column, source), source).rows(1, 80)
    (y,) = graphs["bool"].run({"x": (value, "bool")}, ["y"])
    assert y.tolist() == column.to_pylist()[1:80]


def test_aligned_memory_of_arrow_is_used_and_any_other_is_copied(held):
    library = load_library()
    values = aligned(range(1000))
    for start, is_shared in ((0, True), (16, True), (1, False), (7, False)):
        part = values[start:]
        tensor = new_tensor(library, part, "float32")
        assert library.c.TF_TensorIsAligned(tensor)
        assert (library.c.TF_TensorData(tensor) == part.ctypes.data) == is_shared
        assert held() == is_shared  # a copy lets go of its source at once
        library.c.TF_DeleteTensor(tensor)
    assert not held()


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.zeros(3), "float32", "expected an array of float32, got float64"),
        (np.zeros(3, ">f4"), "float32", "got >f4"),
        (ArrowStrings(pa.array(["a"]), (1,)), "float32", "got strings"),
        (np.array([b"a", None], object), "string", "got 1 null"),
        (ArrowStrings(pa.array(["a"]), (2,)), "string", "expected 2 strings, got 1"),
    ],
)
def test_other_values_are_refused_and_nothing_stays(value, dtype, message, held):
    good = np.zeros(16, np.float32)
    with (
        pytest.raises(ValueError, match=message),
        fed(load_library(), [(good, "float32"), (value, dtype)]),
    ):
        pytest.fail("it was fed")
    assert not held()


def test_output_of_a_dtype_that_no_column_has_is_refused_and_freed(graphs, held):
    library = load_library()
    memory = pa.allocate_buffer(8)
    tensors._held[10**9] = memory
    tensor = library.c.TF_NewTensor(8, None, 0, memory.address, 8, tensors._release, 10**9)
    with pytest.raises(ValueError, match="dtype 8"):
        take_outputs(library, [tensor])
    gc.collect()
    assert not held()


def test_output_holds_the_input_that_it_is(graphs, held):
    values = aligned(range(4096))
    (y,) = graphs["float32"].run({"x": (values, "float32")}, ["y"])
    assert np.shares_memory(y, values)
    del values
    churn()
    part = y[4090:]
    del y
    churn()
    assert part.tolist() == list(range(4090, 4096))
    del part
    gc.collect()
    assert not held()


def aligned(values):
    """Return float32 numbers in memory that Arrow aligned; `pa.array` of an array keeps NumPy's."""
    return pa.array([float(value) for value in values], pa.float32()).to_numpy()


def churn():
    """Free what nothing holds, and write over freed memory."""
    gc.collect()
    for _ in range(20):
        pa.array(np.full(4096, 7, np.float32)).take(pa.array(np.arange(4096)))


def make_variable(dtype, threads=1):
    """Return a graph that assigns x to a variable, or reads it as y."""
    graph = Graph(threads).add("Placeholder", "x", dtype=dtype)
    graph.add("VarHandleOp", "v", dtype=dtype, any_shape=True)
    graph.add("AssignVariableOp", "assign", ["v", "x"], dtype=dtype)
    return graph.add("ReadVariableOp", "y", ["v"], dtype=dtype)


def test_variable_holds_the_numbers_that_it_was_assigned(held):
    graph = make_variable("float32")
    values = aligned(range(4096))
    graph.run({"x": (values, "float32")}, [], ["assign"])
    del values
    churn()
    assert held() == 1
    (before,) = graph.run({}, ["y"])
    other = aligned([1] * 4096)
    graph.run({"x": (other, "float32")}, [], ["assign"])
    churn()
    (after,) = graph.run({}, ["y"])
    assert before.tolist() == list(range(4096))
    assert after.tolist() == [1.0] * 4096
    del before, after, other
    gc.collect()
    assert held() == 1
    graph.close()


@pytest.mark.parametrize("kind", ["plain", "codes"])
def test_variable_holds_the_strings_that_it_was_assigned(kind):
    graph = make_variable("string")
    want = [b"x" * size for size in range(300)]
    array = pa.array(want)
    value = ArrowStrings(array, (300,))
    if kind == "codes":
        value = StringCodes(Strings(array), np.arange(300))
    graph.run({"x": (value, "string")}, [], ["assign"])
    del value, array
    churn()
    (y,) = graph.run({}, ["y"])
    assert y.array.to_pylist() == want
    graph.close()


def test_process_ends_while_a_variable_and_an_output_hold_inputs():
    program = (
        "from tests.models.capi.test_tensors import aligned, identity, make_variable\n"
        "values = aligned(range(4096))\n"
        "variable, same = make_variable('float32'), identity('float32')\n"
        "variable.run({'x': (values, 'float32')}, [], ['assign'])\n"
        "y = same.run({'x': (values, 'float32')}, ['y'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_error_of_a_call_leaves_the_session_usable_and_holds_nothing(held):
    graph = Graph().add("Placeholder", "x", dtype="string")
    graph.add("StringToNumber", "y", ["x"], out_type="float32")
    bad, good = (ArrowStrings(pa.array([text]), (1,)) for text in ("no number", "1.5"))
    for _ in range(3):
        with pytest.raises(TensorFlowError, match="no number") as e:
            graph.run({"x": (bad, "string")}, ["y"])
        assert e.value.code == "INVALID_ARGUMENT"
        assert graph.run({"x": (good, "string")}, ["y"])[0].tolist() == [1.5]
    del e
    gc.collect()
    assert not held()
    graph.close()


@pytest.mark.slow  # a soak
@pytest.mark.timeout(180 + _CALLS // 500)
def test_many_calls_take_no_more_memory(held):
    numbers, texts = (identity(dtype, threads=0) for dtype in ("float32", "string"))
    x = aligned([1] * 64)
    words = pa.array([b"w" * size for size in range(64)])
    plain = ArrowStrings(words, (64,))
    codes = StringCodes(Strings(words), np.arange(64))

    def call(count):
        for number in range(count):
            numbers.run({"x": (x[number % 2 :], "float32")}, ["y"])  # shared, copied
            if number % 5 == 0:
                texts.run({"x": (plain, "string")}, ["y"])
                texts.run({"x": (codes, "string")}, ["y"])

    process = psutil.Process()
    call(2000)
    sizes = []
    for _ in range(4):
        call(_CALLS // 4)
        gc.collect()
        sizes.append(process.memory_info().rss)
    # A leak is in every quarter; an allocator that takes another arena is in one of them.
    grown = min(after - before for before, after in pairwise(sizes))
    # A leak of one pointer for each call would be as much again as is allowed.
    assert grown < max(1 << 20, 2 * _CALLS), f"{grown / 2**20:.1f} MB of {_CALLS // 4} calls"
    assert not held()
    numbers.close()
    texts.close()


def test_threads_share_a_session_and_get_their_own_answers(held):
    numbers, texts = identity("float32", threads=2), identity("string", threads=2)
    wrong = []

    def work(seed):
        chance = np.random.default_rng(seed)
        for _ in range(150):
            size = int(chance.integers(0, 3000))
            x = chance.random(size, np.float32)
            words = [b"%d of %d" % (seed, number) * 3 for number in range(size % 50)]
            (y,) = numbers.run({"x": (x, "float32")}, ["y"])
            (s,) = texts.run(
                {"x": (ArrowStrings(pa.array(words, pa.binary()), (len(words),)), "string")}, ["y"]
            )
            if y.tolist() != x.tolist() or s.array.to_pylist() != words:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    gc.collect()
    assert not held()
    numbers.close()
    texts.close()
