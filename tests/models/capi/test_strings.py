import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.runtimes.capi import strings as capi_strings
from scoreline.models.runtimes.capi.layout import LARGE, SMALL, VIEW
from scoreline.models.runtimes.capi.library import load_library
from scoreline.models.runtimes.capi.strings import pack, pack_array, unpack
from scoreline.models.strings import ArrowStrings, StringCodes, Strings
from tests.models.capi.graph import Graph

# Sizes about the limits of structs (22, 23), of Arrow's views (12, 13), and beyond.
_SIZES = st.integers(0, 70) | st.sampled_from([0, 1, 11, 12, 13, 21, 22, 23, 24, 5000])
BYTES = _SIZES.flatmap(lambda size: st.binary(min_size=size, max_size=size))
TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
]


@st.composite
def slices(draw):
    """Draw a slice of an Arrow array of any type of strings, and its values."""
    kind = draw(st.sampled_from(TYPES))
    is_text = "string" in str(kind)
    values = draw(st.lists(st.text(max_size=40).map(str.encode) if is_text else BYTES, max_size=20))
    start = draw(st.integers(0, len(values)))
    stop = draw(st.integers(start, len(values)))
    plain = pa.array(values, pa.binary()).cast(pa.string() if is_text else pa.binary())
    return plain.cast(kind).slice(start, stop - start), values[start:stop]


@pytest.fixture(scope="module")
def graph():
    """Return a graph of string ops: y = x, and those that TensorFlow writes anew."""
    made = Graph().add("Placeholder", "x", dtype="string").add("Identity", "y", ["x"], T="string")
    made.add("StringUpper", "upper", ["x"]).add("StringJoin", "twice", listed=["x", "x"])
    made.add("StringLength", "length", ["x"])
    yield made
    made.close()


def run(graph, value, *outputs):
    """Return flat lists of outputs for one string input."""
    return [
        found.array.to_pylist() if isinstance(found, ArrowStrings) else found.reshape(-1).tolist()
        for found in graph.run({"x": (value, "string")}, outputs)
    ]


def test_strings_of_every_arrow_type_cross_both_ways(graph):
    @given(slices())
    def check(drawn):
        array, want = drawn
        value = ArrowStrings(array, (len(array), 1))
        same, upper, twice, length = run(graph, value, "y", "upper", "twice", "length")
        assert same == want
        assert upper == [text.upper() for text in want]
        assert twice == [text + text for text in want]
        assert length == [len(text) for text in want]

    check()


def test_codes_cross_both_ways(graph):
    @given(st.lists(BYTES, min_size=1, max_size=20), st.data())
    def check(values, data):
        shape = data.draw(st.tuples(st.integers(0, 5), st.integers(0, 3)))
        kind = data.draw(st.sampled_from(["i1", "i4", "i8", "u2"]))
        numbers = np.random.default_rng(data.draw(st.integers(0, 99)))
        codes = numbers.integers(0, len(values), shape).astype(kind)
        value = StringCodes(Strings(pa.array(values, pa.large_binary())), codes)
        want = [values[code] for code in codes.reshape(-1)]
        assert run(graph, value, "y", "twice") == [want, [text + text for text in want]]
        assert value.to_objects().reshape(-1).tolist() == want

    check()


@given(st.lists(BYTES, max_size=20))
def test_objects_are_packed_too(values):
    library = load_library()
    structs = pack(np.array(values, object))
    for text, words in zip(values, structs.words, strict=True):
        at = words.ctypes.data
        assert library.c.TF_StringGetSize(at) == len(text)


@given(slices(), slices())
def test_structs_of_all_kinds_become_strings(one, two):
    """LARGE of us, then SMALL and LARGE of TensorFlow's own copies, VIEW and OFFSET."""
    library = load_library()
    c = library.c
    (array, values), (_, more) = one, two
    packed = pack_array(array)
    words = np.zeros((len(values) + 3 * len(more), 3), np.uint64)
    words[: len(values)] = packed.words
    owned = []
    pool = np.frombuffer(b"".join(more) or b"\0", np.uint8)
    near = np.concatenate([words.reshape(-1).view(np.uint8), pool])  # strings behind the structs
    words = near[: words.nbytes].view(np.uint64).reshape(-1, 3)
    begin = 0
    for number, text in enumerate(more):
        copy, view, offset = (len(values) + 3 * number + kind for kind in range(3))
        c.TF_StringInit(words[copy].ctypes.data)
        c.TF_StringCopy(words[copy].ctypes.data, text, len(text))
        owned.append(words[copy].ctypes.data)
        words[view] = (len(text) << 2 | 3, pool.ctypes.data + begin, 0)
        distance = words.nbytes + begin - offset * 24
        words[offset, 0] = (len(text) << 2 | 2) | distance << 32
        begin += len(text)
    want = values + [text for text in more for _ in range(3)]
    got = unpack(words.ctypes.data, len(words), (near, pool))
    for at in owned:
        c.TF_StringDealloc(at)
    assert got.to_pylist() == want
    assert got.type == pa.large_binary()
    got.validate(full=True)


@given(st.lists(BYTES, min_size=1, max_size=20), st.booleans(), st.randoms())
def test_strings_are_read_from_anywhere(values, near, chance):
    order = list(range(len(values)))
    chance.shuffle(order)
    packed = pack_array(pa.array(values, pa.binary()))
    words = packed.words[order]
    with pytest.MonkeyPatch.context() as patch:
        if not near:
            patch.setattr(capi_strings, "_SPAN_BITS", 4)  # strings that lie far apart
        got = unpack(words.ctypes.data, len(words), (words, packed))
    assert got.to_pylist() == [values[row] for row in order]


@given(
    st.lists(st.sampled_from([b"", b"ab", b"x" * 30]), min_size=1, max_size=6),
    st.sampled_from([LARGE, VIEW]),
)
def test_empty_strings_may_point_to_nothing(values, kind):
    words, held = np.zeros((len(values), 3), np.uint64), []
    for row, text in enumerate(values):
        held.append(np.frombuffer(text or b"\0", np.uint8))
        address = held[-1].ctypes.data if text else 0
        rest = (len(text), address) if kind == LARGE else (address, 0)
        words[row] = (len(text) << 2 | kind, *rest)
    assert unpack(words.ctypes.data, len(words), (words, held)).to_pylist() == values


def test_strings_in_order_but_far_apart_do_not_reserve_the_memory_between():
    memory = np.zeros(1 << 24, np.uint8)
    words = np.zeros((2, 3), np.uint64)
    for row, start in enumerate((0, (1 << 24) - 1)):
        words[row] = (1 << 2 | LARGE, 1, memory.ctypes.data + start)
    before = pa.total_allocated_bytes()
    got = unpack(words.ctypes.data, 2, (words, memory))
    assert got.to_pylist() == [b"\0", b"\0"]
    assert pa.total_allocated_bytes() - before < 10_000


def test_nulls_are_refused():
    for kind in TYPES:
        with pytest.raises(ValueError, match="without nulls, got 1"):
            pack_array(pa.array(["a", None], kind))
    with pytest.raises(ValueError, match="without nulls, got 1"):
        pack(np.array([b"a", None], object))


@pytest.mark.parametrize("code", [-1, 2])
def test_codes_without_a_string_are_refused(code):
    value = StringCodes(Strings(pa.array(["a", "b"])), np.array([0, code], np.int32))
    with pytest.raises(ValueError, match="codes of 2 strings, got"):
        pack(value)


def test_strings_of_arrow_are_not_copied():
    array = pa.array(["a", "b" * 30]).slice(1)
    packed = pack_array(array)
    assert packed.words.tolist() == [[30 << 2 | LARGE, 30, array.buffers()[2].address + 1]]
    assert packed.words.ctypes.data % load_library().alignment_bytes == 0
    assert SMALL == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_ops_read_no_further_than_a_string(dtype):
    """In Arrow's memory the next string follows at once, and no NUL."""
    graph = Graph(0).add("Placeholder", "x", dtype="string")
    graph.add("StringToNumber", "y", ["x"], out_type=dtype)
    numbers = [*range(-50, 2000), *[7] * 64]
    strings = pa.array([str(number) for number in numbers], pa.binary())
    (y,) = graph.run({"x": (ArrowStrings(strings, (len(numbers),)), "string")}, ["y"])
    assert y.tolist() == numbers
    graph.close()


def test_distinct_strings_are_packed_once():
    strings = Strings(pa.array(["a", "b"]))
    one, two = (pack(StringCodes(strings, np.array([0, 1]))).held for _ in range(2))
    assert one is two


def test_a_string_too_long_for_arrows_views_is_refused():
    long = ((1 << 31) << 2 | LARGE, 1 << 31, 8192)
    words = np.array([long, (1 << 2 | LARGE, 1, 4096)], np.uint64)
    with pytest.raises(ValueError, match="at most 2147483647 bytes, got 2147483648"):
        unpack(words.ctypes.data, 2, words)


def test_arrow_strings_repeat_and_slice_rows():
    value = ArrowStrings(pa.array(list("abcdef")), (3, 2))
    assert value.rows(1, 3).to_objects().tolist() == [[b"c", b"d"], [b"e", b"f"]]
    more = value.repeat_last(2)
    assert more.shape == (5, 2)
    assert more.to_objects()[2:].tolist() == [[b"e", b"f"]] * 3
