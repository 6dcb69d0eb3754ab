from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from demo.data import prepare_flights, write_directory
from demo.model import (
    FILLS,
    INPUT_COLUMNS,
    LARGE,
    SMALL,
    TrainedModel,
    auc,
    export_large,
    train_flights,
)
from demo.network import NUMBERS, TEXTS
from scoreline.models.artifact import digest_model
from scoreline.models.mapping import find_mismatches
from scoreline.models.servable import load_servable
from scoreline.models.signature import InputColumn, parse_value
from scoreline.models.tensors import fill_nulls

# One epoch on eight days: enough for a signature, not for a good model.
TINY = SMALL._replace(
    shape=SMALL.shape._replace(widths=(8, 4), epochs=1, batch_rows=256),
    train=("2013-01-01", "2013-01-08"),
    held_out=("2013-11-27", "2013-11-28"),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return prepare_flights(str(tmp_path_factory.mktemp("flights") / "flights")).path


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    return train_flights(dataset, str(tmp_path_factory.mktemp("models") / "tiny"), recipe=TINY)


@pytest.fixture(scope="module")
def servable(trained):
    return load_servable(trained.path, "serving_default")


def read_day(dataset, date):
    return pq.read_table(f"{dataset}/date={date}/part-0.parquet", partitioning=None)


def predict(servable, rows):
    """Score rows like the pipeline, with fills as text, like a user's."""
    columns = {}
    for spec in servable.signature.inputs:
        fill = parse_value("--fill", spec, str(FILLS[spec.name])) if spec.name in FILLS else None
        array = rows[spec.name].combine_chunks()
        columns[spec.name] = fill_nulls(array, InputColumn(spec, spec.name, fill))
    return servable.predict(columns, rows.num_rows)["late_probability"].to_numpy()


def test_signature_has_the_named_inputs_and_one_output(servable):
    inputs = {spec.name: (spec.dtype, spec.shape) for spec in servable.signature.inputs}
    assert inputs == {name: (dtype, (None,)) for name, dtype in INPUT_COLUMNS.items()}
    outputs = [(spec.name, spec.dtype, spec.shape) for spec in servable.signature.outputs]
    assert outputs == [("late_probability", "float32", (None,))]


def test_no_input_is_known_only_on_the_day():
    leaks = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
    assert not leaks & set(INPUT_COLUMNS)
    assert not [name for name in INPUT_COLUMNS if name.startswith("weather_")]


def test_every_input_fits_a_column_and_every_nullable_input_has_a_fill(dataset, servable):
    rows = read_day(dataset, "2013-01-01")
    sources = [InputColumn(spec, spec.name) for spec in servable.signature.inputs]
    assert find_mismatches(servable.signature, sources, rows.schema) == {}
    nullable = {n for n in INPUT_COLUMNS if rows[n].null_count}
    assert nullable == set(FILLS)


def test_exported_model_scores_as_it_was_evaluated(dataset, trained, servable):
    days = ("2013-11-27", "2013-11-28")
    rows = pa.concat_tables(read_day(dataset, day) for day in days)
    rows = rows.filter(rows["arr_delay"].is_valid())
    scores = predict(servable, rows)
    assert trained.held_out_rows == len(scores) > 1000
    assert np.unique(scores).size > 500
    late = pc.greater(rows["arr_delay"], 15).to_numpy()
    assert auc(late, scores) == pytest.approx(trained.auc, abs=1e-6)


def test_values_never_seen_are_scored(dataset, servable):
    rows = read_day(dataset, "2013-01-01").slice(0, 3)
    for name in TEXTS:
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, name, pa.array(["", "ünseen", "JFK"]))
    scores = predict(servable, rows)
    assert ((scores > 0) & (scores < 1)).all()


def test_training_twice_gives_the_same_scores(dataset, trained, servable, tmp_path):
    again = train_flights(dataset, str(tmp_path / "again"), recipe=TINY)
    assert not again.was_cached
    assert (again.key, again.auc) == (trained.key, trained.auc)
    rows = read_day(dataset, "2013-07-04")
    other = load_servable(again.path, "serving_default")
    np.testing.assert_array_equal(predict(other, rows), predict(servable, rows))


def test_cached_model_is_returned_without_importing_tensorflow(dataset, trained):
    code = (
        "import sys\n"
        "from demo.model import Recipe, train_flights\n"
        "from demo.network import Shape\n"
        f"recipe = {TINY!r}\n"
        f"model = train_flights({dataset!r}, {trained.path!r}, recipe=recipe)\n"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'pandas', 'apache_beam'} & set(sys.modules)\n"
        "print(model.was_cached, model.auc, sorted(heavy))\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["True", str(trained.auc), "[]"]


def test_changed_model_or_recipe_is_not_taken_from_the_cache(dataset, tmp_path, monkeypatch):
    output = tmp_path / "model"

    def make(dataset, output, recipe):
        """Replace training: write the number of the training."""
        made.append(recipe)

        def write(folder):
            (folder / "saved_model.pb").write_text(str(len(made)))

        write_directory(output, write)
        return TrainedModel(output, digest_model(output), "", 0.7, 0.6, 2, 1, 0.0, False)

    made = []
    monkeypatch.setattr("demo.model._make", make)
    first = train_flights(dataset, str(output), recipe=TINY)
    assert train_flights(dataset, str(output), recipe=TINY) == first._replace(was_cached=True)
    (output / "saved_model.pb").write_text("damaged")
    assert train_flights(dataset, str(output), recipe=TINY).key == first.key
    other = TINY._replace(train=("2013-01-01", "2013-01-04"))
    assert train_flights(dataset, str(output), recipe=other).key != first.key
    assert made == [TINY, TINY, other]
    (tmp_path / "model.json").write_text("{}")
    train_flights(dataset, str(output), recipe=other)
    assert len(made) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "model.json"]


def test_folder_that_is_no_model_is_not_replaced(dataset, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="empty or a SavedModel, got a folder with other"):
        train_flights(dataset, str(tmp_path), recipe=TINY)


def test_missing_data_set_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Call prepare_flights\('.*absent'\) first"):
        train_flights(str(tmp_path / "absent"), str(tmp_path / "model"))


def test_days_without_flights_are_an_error(dataset, tmp_path):
    recipe = TINY._replace(train=("2014-01-01", "2014-01-31"))
    with pytest.raises(ValueError, match=r"from 2014-01-01 to 2014-01-31 in .*, got none"):
        train_flights(dataset, str(tmp_path / "model"), recipe=recipe)


def test_large_model_is_the_same_network_with_50_times_the_work(monkeypatch):
    """The same code trains both models; training the large one takes too long for a test."""

    def products(widths):
        sizes = [len(NUMBERS) + sum(TEXTS.values()) + 6, *widths, 1]
        return sum(a * b for a, b in itertools.pairwise(sizes))

    ratio = products(LARGE.shape.widths) / products(SMALL.shape.widths)
    assert ratio == pytest.approx(50, rel=0.05)
    monkeypatch.setattr("demo.model.train_flights", lambda *args, recipe: (*args, recipe))
    assert export_large("flights", "large") == ("flights", "large", LARGE)


@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_auc_equals_that_of_scikit_learn_with_ties(distinct):
    random = np.random.default_rng(distinct)
    labels = random.random(500) < 0.3
    scores = (random.integers(0, distinct, 500) / distinct).astype(np.float32)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auc(labels.astype(np.int64), scores) == auc(labels, scores)


def test_auc_of_equal_scores_is_a_half():
    assert auc(np.array([True, False, True]), np.ones(3)) == 0.5


def test_auc_refuses_what_it_cannot_rank():
    with pytest.raises(ValueError, match="two classes, got 2 true of 2"):
        auc(np.array([1, 1]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="Expected 2 scores, got NaN in 1"):
        auc(np.array([0, 1]), np.array([0.1, np.nan]))
