"""Every model format on every input format, with every dtype and rank that both can hold.

The rows equal a direct computation, by key. Some models compute. Others return their inputs, and
every value must come back unchanged. Each pair runs through the functions that a job's steps call.
One whole job for each format and for each kind of model shows that the steps do the same.
"""

from __future__ import annotations

import datetime
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from scoreline.pipelines import score_batch
from tests.echo_models import Cell, save_echoes
from tests.fakes import read_scores
from tests.inputs import write_rows
from tests.pure import score_without_job

DAYS = (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2))

ROWS = 120
RNG = np.random.default_rng(3)
TABLE = pa.table(
    {
        "id": np.arange(ROWS),
        "a": RNG.uniform(-1, 1, ROWS).astype(np.float32),
        "b": RNG.uniform(-1, 1, ROWS).astype(np.float32),
    }
)
# Bit-equal without a matrix product; within one step of the output's scale if quantized.
MODELS = {
    "module": 0.0,
    "keras_3_export": 1e-6,
    "model.keras": 1e-6,
    "keras_2": 1e-6,
    "tf1": 0.0,
    "estimator": 0.0,
    "model.tflite": 1e-6,
    "int8.tflite": 0.03,
}
INPUTS = ("parquet", "tfrecord", "tfrecord.gz", "csv", "jsonl", "delta")


@pytest.fixture(scope="module")
def lakes(tmp_path_factory):
    """Return the same two days in every format."""
    root = tmp_path_factory.mktemp("lakes")
    for suffix in INPUTS:
        for day, rows in zip(DAYS, (TABLE.slice(0, 70), TABLE.slice(70)), strict=True):
            if suffix == "delta":
                dated = rows.append_column("date", pa.repeat(day, rows.num_rows))
                write_deltalake(str(root / suffix), dated, partition_by=["date"], mode="append")
            else:
                write_rows(root / suffix, f"date={day}", "0", rows, suffix)
    return {suffix: str(root / suffix) for suffix in INPUTS}


def options_of(lake, model, output, *more):
    return [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={output}", *more]


def conversions_of(suffix):
    """Return the option that makes floats of a format's numbers: text has only doubles."""
    return ["--columns=a=float32(a),b=float32(b)"] * suffix.startswith(("csv", "json"))


def score_by_job(options):
    """Return the rows that a whole job publishes."""
    assert score_batch.main(options) == 0
    (output,) = (option.partition("=")[2] for option in options if option.startswith("--output="))
    return read_scores(output).drop_columns(["date"])


def cases(kinds, suffixes, jobs):
    """Return every pair, ordered by model, so that each is loaded once; jobs among them again."""
    return [
        pytest.param(kind, suffix, way, id=f"{kind}-{suffix}{name}")
        for kind in kinds
        for suffix in suffixes
        for way, name in ((score_without_job, ""), (score_by_job, "-job"))
        if way is score_without_job or (kind, suffix) in jobs
    ]


# A whole job for every model, and for every format.
JOBS = set(zip(MODELS, (INPUTS * 2)[: len(MODELS)], strict=True))


@pytest.mark.parametrize(("kind", "suffix", "way"), cases(MODELS, INPUTS, JOBS))
def test_every_model_scores_every_input(zoo, lakes, tmp_path, kind, suffix, way):
    options = options_of(lakes[suffix], zoo(kind), tmp_path / "scores", *conversions_of(suffix))
    scores = way(options).sort_by("id")
    assert scores["id"].to_pylist() == list(range(ROWS))
    (output,) = [n for n in scores.schema.names if n in ("y", "outputs")]
    wanted = pc.add(pc.multiply(TABLE["a"], pa.scalar(2.0, pa.float32())), TABLE["b"])
    np.testing.assert_allclose(
        scores[output].to_numpy(), wanted.to_numpy(), rtol=0, atol=MODELS[kind]
    )


DTYPES = {
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bfloat16": pa.float32(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
FIXED = ((), (4,), (2, 3, 1))
SHAPES = (*FIXED, (None,), (None, 2))
OF_EXAMPLES = {Cell(d, s) for d in ("float32", "int64", "string") for s in (*FIXED, (None,))}
ALL = {Cell(dtype, shape) for dtype in DTYPES for shape in SHAPES}
# Every dtype in these shapes, where neither the model nor the format is the one with every cell.
FEW = {cell for cell in ALL if cell.shape in ((), (None, 2))}
ECHO_ROWS = 40  # in two files, so that batches of 17 rows begin and end within them
# The dtypes that each format can hold. LiteRT has no bfloat16. Delta has no unsigned numbers and no
# half floats. pyarrow's readers of text have no half floats.
ECHOES = {
    "module": ALL,
    "tf1": ALL,
    "keras_3_export": ALL,
    "model.keras": ALL,
    "model.tflite": {cell for cell in ALL if cell.dtype != "bfloat16"},
    "examples": OF_EXAMPLES,
}
LAKES = {
    "parquet": ALL,
    "delta": {c for c in ALL if not c.dtype.startswith("uint") and c.dtype != "float16"},
    "jsonl": {cell for cell in ALL if cell.dtype != "float16"},
    "csv": {Cell(dtype, ()) for dtype in DTYPES if dtype != "float16"},
    "tfrecord": OF_EXAMPLES,
}


def cells_of(kind, suffix):
    """Return the cells of a pair: all that both hold if it is the module's or Parquet's, or few.

    How values are read depends on the format, and how they are fed on the model: each format and
    each model has every cell in one of its pairs.
    """
    cells = ECHOES[kind] & LAKES[suffix]
    is_whole = kind in ("module", "examples") or suffix == "parquet"
    return sorted(cells if is_whole else cells & FEW)


def nest(leaf, shape):
    for size in reversed(shape):
        leaf = pa.list_(leaf) if size is None else pa.list_(leaf, size)
    return leaf


def values_of(cell):
    """Return values that the dtype holds exactly, including its extremes."""
    sizes = [ECHO_ROWS, *(3 if size is None else size for size in cell.shape)]
    numbers = np.random.default_rng(len(cell.name)).integers(0, 3, sizes)
    if cell.dtype == "string":
        return np.array(["", "ü", "x" * 40], object)[numbers]
    if cell.dtype == "bool":
        return numbers == 1
    if "float" in cell.dtype:
        return (numbers * 0.75 - 1).astype("float32" if cell.dtype == "bfloat16" else cell.dtype)
    ends = np.iinfo(cell.dtype)
    return np.array([ends.min, ends.max, ends.max - 1], cell.dtype)[numbers]


def column_of(cell, values):
    def plain(value):
        return list(map(plain, value)) if isinstance(value, list) else np.float16(value)

    lists = values.tolist()
    return pa.array(plain(lists) if cell.dtype == "float16" else lists, _type_of(cell))


def _type_of(cell):
    return nest(DTYPES[cell.dtype], cell.shape)


def _schema_type(cell):
    name = {"float": "float32", "double": "float64"}.get(str(DTYPES[cell.dtype]))
    text = name or str(DTYPES[cell.dtype])
    for _ in cell.shape:
        text = f"list<{text}>"
    return text


def write_echo_lake(root, suffix, cells, values):
    """Write rows of all cells to two files of one day; return the options to read them."""
    ids = np.arange(ECHO_ROWS)
    rows = pa.table({"id": ids, **{c.name: column_of(c, values[c]) for c in cells}})
    if suffix == "tfrecord":  # a tf.Example holds flat lists
        for cell in cells:
            if cell.shape:
                flat = values[cell].reshape(ECHO_ROWS, -1).tolist()
                at = rows.schema.get_field_index(cell.name)
                rows = rows.set_column(at, cell.name, pa.array(flat, pa.list_(DTYPES[cell.dtype])))
    for number, part in enumerate((rows.slice(0, 25), rows.slice(25))):
        if suffix == "delta":
            dated = part.append_column("date", pa.repeat(DAYS[0], part.num_rows))
            write_deltalake(str(root), dated, partition_by=["date"], mode="append")
        else:
            write_rows(root, f"date={DAYS[0]}", str(number), part, suffix)
    if suffix not in ("csv", "jsonl"):
        return []
    schema = root.parent / f"{suffix}.json"
    types = {"id": "int64", **{cell.name: _schema_type(cell) for cell in cells}}
    schema.write_text(json.dumps(types))
    return [f"--schema={schema}"]


@pytest.fixture(scope="module")
def echoes(tmp_path_factory):
    """Return a function that gives the cells of a model and its path, saving a kind at once."""
    saved = {}

    def find(kind, suffix):
        if kind not in saved:
            sets = {name: cells_of(kind, name) for name in LAKES}
            folder = tmp_path_factory.mktemp("echoes")
            saved[kind] = sets, save_echoes(kind, folder, sets)
        sets, paths = saved[kind]
        return sets[suffix], paths[suffix]

    return find


# Parquet holds every cell; TFRecord holds those of tf.Examples.
ECHO_JOBS = {
    *((kind, "parquet") for kind in ECHOES if kind != "examples"),
    ("examples", "tfrecord"),
    *(("module", suffix) for suffix in ("delta", "jsonl", "csv")),
}


@pytest.mark.parametrize(("kind", "suffix", "way"), cases(ECHOES, LAKES, ECHO_JOBS))
def test_every_dtype_and_rank_comes_back_as_it_went_in(tmp_path, echoes, kind, suffix, way):
    cells, model = echoes(kind, suffix)
    values = {cell: values_of(cell) for cell in cells}
    more = write_echo_lake(tmp_path / "lake", suffix, cells, values)
    if kind != "examples":
        free = [cell for cell in cells if None in cell.shape]
        blank = {"string": "-", "bool": "false"}
        more += [f"--pad={cell.name}={blank.get(cell.dtype, 0)}" for cell in free]
        rounded = [cell.name for cell in cells if cell.dtype == "bfloat16"]
        more += [f"--columns={','.join(f'{n}=bfloat16({n})' for n in rounded)}"] * bool(rounded)
    options = options_of(tmp_path / "lake", model, tmp_path / "scores", "--batch_rows=17", *more)
    scores = way(options).sort_by("id")
    assert scores["id"].to_pylist() == list(range(ECHO_ROWS))
    assert len(scores.schema.names) == len(cells) + len(("id", "model_digest"))
    for cell in cells:
        assert scores[f"y_{cell.name}"].to_pylist() == values[cell].tolist(), cell
