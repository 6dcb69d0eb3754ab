"""The demo model: will a flight arrive more than 15 minutes late, as seen from the night before?

    trained = train_flights("build/data/flights", "build/models/flights")

trains on January to October of `demo.data` and holds out November and December. It knows
the schedule, the plane, and how earlier days went; nothing of the day itself. Flights that never
arrived (cancelled, diverted) have no label and are left out. A model that is there already, for the
same data, code and TensorFlow, is returned without importing TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from demo.data import PARTITION_COLUMN, dataset_digest, hash_file, write_directory
from demo.features import is_late
from demo.network import (
    INPUT_COLUMNS,
    OUTPUT,
    SIGNATURE,
    Network,
    Shape,
    find_vocabulary,
    to_examples,
)
from scoreline.models.artifact import SAVED_MODEL, digest_model, model_format_of

__all__ = [
    "FILLS",
    "INPUT_COLUMNS",
    "LARGE",
    "OUTPUT",
    "SIGNATURE",
    "SMALL",
    "Recipe",
    "TrainedModel",
    "auc",
    "export_large",
    "train_flights",
]

# What stands in for a null, in training and in scoring. Inputs that are not named are never null.
FILLS: Mapping[str, int | float | str] = {
    "plane_manufacturer": "",
    "plane_year": 0,
    "origin_evening_late_rate_prev_day": 0.25,
    "origin_late_rate_7d": 0.25,
    "carrier_late_rate_7d": 0.25,
    "flight_late_rate_28d": 0.25,
    "origin_hour_late_rate_28d": 0.25,
    "route_gain_28d": -5.0,
    "dest_gain_prev_day": -5.0,
}
_LABEL = "arr_delay"
_BASELINE_COLUMNS = ["hour", "carrier", "origin"]
# The code that decides what a trained model is, beside the code that made the data set.
_CODE = ("model.py", "network.py")


class Recipe(NamedTuple):
    """What is trained on which dates; both ends of a range of dates count.

    Attributes:
      shape: of the network and of its training.
      train: the dates trained on.
      held_out: the dates the AUC is taken on.
    """

    shape: Shape
    train: tuple[str, str] = ("2013-01-01", "2013-10-31")
    held_out: tuple[str, str] = ("2013-11-01", "2013-12-31")


SMALL = Recipe(Shape(widths=(64, 32), epochs=5))
# About 50 times the multiplications of SMALL, for benchmarks; one month is enough to give its batch
# normalization and its weights plausible values.
LARGE = Recipe(Shape(widths=(384, 384, 128), epochs=1), train=("2013-01-01", "2013-01-31"))


class TrainedModel(NamedTuple):
    """A SavedModel on disk, and how good it is.

    Attributes:
      path: the SavedModel directory.
      digest: `sha256:…` of its files.
      key: identity of what it was made from: data, code, recipe and versions.
      auc: on the held-out dates.
      baseline_auc: of the mean late rate by hour, carrier and origin, on the same rows.
      train_rows: labeled rows trained on.
      held_out_rows: labeled rows held out.
      seconds: what making it took, without the import of TensorFlow.
      was_cached: whether it was there already.
    """

    path: str
    digest: str
    key: str
    auc: float
    baseline_auc: float
    train_rows: int
    held_out_rows: int
    seconds: float
    was_cached: bool


def train_flights(dataset: str, output: str, *, recipe: Recipe = SMALL) -> TrainedModel:
    """Train and export the model, unless it is there already.

    Writes the SavedModel directory `output` and, beside it, the manifest `output`.json. The
    directory appears under its name only when it is whole.

    Args:
      dataset: the folder that `prepare_flights` wrote.
      output: the SavedModel directory to make; what is there is replaced if it is a SavedModel.
      recipe: what to train, on which dates.

    Raises:
      FileNotFoundError: the dataset is not there.
      FileExistsError: the output holds something else.
    """
    key = _key_of(dataset, recipe)
    cached = _read_cached(output, key)
    if cached is not None:
        return cached
    if (
        Path(output).exists()
        and model_format_of(output) != SAVED_MODEL
        and any(Path(output).iterdir())
    ):
        raise FileExistsError(
            f"Expected {output} to be missing, empty or a SavedModel, got a folder with other "
            "files. Remove it, or name another folder."
        )
    made = _make(dataset, output, recipe)._replace(key=key)
    _write_manifest(output, made)
    return made


def export_large(dataset: str, output: str) -> TrainedModel:
    """Make the large model for benchmarks: the same inputs and output, about 50 times the work.

    Trained for one epoch on one month: its scores mean little.
    """
    return train_flights(dataset, output, recipe=LARGE)


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a late flight scores above one on time.

    Args:
      labels: one for each row; true or 1 is the class that should score high.
      scores: one for each row; a tie counts half.

    Raises:
      ValueError: the labels are of one class, or a score is NaN.
    """
    is_positive = np.asarray(labels).astype(bool)
    if np.isnan(scores).any():
        raise ValueError(f"Expected {len(scores)} scores, got NaN in {np.isnan(scores).sum()}")
    positives, rows = int(is_positive.sum()), len(is_positive)
    if positives in (0, rows):
        raise ValueError(f"Expected labels of two classes, got {positives} true of {rows}")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    above = ranks[is_positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (rows - positives)))


def _make(dataset: str, output: str, recipe: Recipe) -> TrainedModel:
    train, held_out = (_read_labeled(dataset, *dates) for dates in (recipe.train, recipe.held_out))
    examples = to_examples(train, find_vocabulary(train))
    labels = is_late(held_out[_LABEL]).to_numpy()
    network = Network(recipe.shape, examples)  # imports TensorFlow
    start = time.monotonic()
    network.train(examples, is_late(train[_LABEL]).to_numpy())
    scores = network.score(to_examples(held_out, examples.vocabulary))
    write_directory(output, network.export)
    return TrainedModel(
        path=output,
        digest=digest_model(output),
        key="",
        auc=auc(labels, scores),
        baseline_auc=auc(labels, _baseline_scores(train, held_out)),
        train_rows=train.num_rows,
        held_out_rows=held_out.num_rows,
        seconds=time.monotonic() - start,
        was_cached=False,
    )


def _read_labeled(dataset: str, first: str, last: str) -> pa.Table:
    """Return the rows of a range of dates that have a label, nulls of inputs filled."""
    import pyarrow.dataset as ds  # imports pandas where it is installed: not for a cached model

    date = pc.field(PARTITION_COLUMN)
    partitioning = ds.partitioning(pa.schema([(PARTITION_COLUMN, pa.string())]), flavor="hive")
    table = ds.dataset(dataset, partitioning=partitioning).to_table(
        columns=[*dict.fromkeys([*INPUT_COLUMNS, *_BASELINE_COLUMNS, _LABEL])],
        filter=(date >= first) & (date <= last) & pc.field(_LABEL).is_valid(),
    )
    if not table.num_rows:
        raise ValueError(f"Expected flights from {first} to {last} in {dataset}, got none")
    for name, fill in FILLS.items():
        at = table.schema.get_field_index(name)
        value = pa.scalar(fill, table.schema.field(at).type)
        table = table.set_column(at, name, pc.fill_null(table[name], value))
    return table.combine_chunks()


def _baseline_scores(train: pa.Table, held_out: pa.Table) -> np.ndarray:
    """Return the mean late rate by hour, carrier and origin; that of all where none flew."""
    late = pc.cast(is_late(train[_LABEL]), pa.float64())
    rates = (
        train.select(_BASELINE_COLUMNS)
        .append_column("late", late)
        .group_by(_BASELINE_COLUMNS)
        .aggregate([("late", "mean")])
    )
    at = pc.index_in(_cells(held_out), _cells(rates))
    return pc.fill_null(rates["late_mean"].take(at), pc.mean(late)).to_numpy()


def _cells(table: pa.Table) -> pa.ChunkedArray:
    texts = [table[name].cast(pa.string()) for name in _BASELINE_COLUMNS]
    return pc.binary_join_element_wise(*texts, " ")


def _key_of(dataset: str, recipe: Recipe) -> str:
    """Return the identity of what a model is made from, without importing TensorFlow."""
    made_from = {
        "dataset": dataset_digest(dataset),
        "recipe": recipe,
        "code": {name: hash_file(Path(__file__).with_name(name)) for name in _CODE},
        "versions": {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")},
    }
    content = json.dumps(made_from, sort_keys=True).encode()
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _manifest_path(output: str) -> Path:
    return Path(output).with_name(f"{Path(output).name}.json")


def _read_cached(output: str, key: str) -> TrainedModel | None:
    """Return what the manifest says, if it is of this key and the model's files are unchanged."""
    try:
        said = TrainedModel(**json.loads(_manifest_path(output).read_text()))
        if said.key == key and digest_model(output) == said.digest:
            return said._replace(path=output, was_cached=True)
    except (FileNotFoundError, TypeError, ValueError):
        pass  # no manifest, no model, or a manifest of an older format: made anew
    return None


def _write_manifest(output: str, made: TrainedModel) -> None:
    path = _manifest_path(output)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.write_text(json.dumps(made._replace(path="")._asdict(), indent=1) + "\n")
    os.replace(partial, path)
