"""The demo model predicts, the night before, if a flight will arrive more than 15 minutes late.

    trained = train_flights("build/data/flights", "build/models/flights")

trains on January to October of `demo.data` and holds out November and December. Features are the
schedule, the plane and the delays of earlier days; none is from the day itself. Flights that never
arrived (cancelled, diverted) have no label and are left out. If a model exists for the same data,
code and TensorFlow, it is returned without importing TensorFlow.
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

# Values that replace nulls, in training and in scoring. Inputs not listed here are never null.
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
# The code that determines a trained model, besides the code that wrote the data set.
_CODE = ("model.py", "network.py")


class Recipe(NamedTuple):
    """A network and the dates to train it on; both ends of a range are included.

    Attributes:
      shape: shape and training parameters of the network.
      train: the dates to train on.
      held_out: the dates to compute the AUC on.
    """

    shape: Shape
    train: tuple[str, str] = ("2013-01-01", "2013-10-31")
    held_out: tuple[str, str] = ("2013-11-01", "2013-12-31")


SMALL = Recipe(Shape(widths=(64, 32), epochs=5))
# About 50 times the multiplications of SMALL, for benchmarks. One month of training is enough for
# plausible weights and batch statistics.
LARGE = Recipe(Shape(widths=(384, 384, 128), epochs=1), train=("2013-01-01", "2013-01-31"))


class TrainedModel(NamedTuple):
    """A SavedModel on disk, with its quality.

    Attributes:
      path: the SavedModel directory.
      digest: `sha256:…` of its files.
      key: identity of data, code, recipe and library versions.
      auc: AUC on the held-out dates.
      baseline_auc: AUC of the mean late rate by hour, carrier and origin, on the same rows.
      train_rows: number of labeled rows in training.
      held_out_rows: number of labeled rows held out.
      seconds: time to train and export it, without the import of TensorFlow.
      was_cached: whether the model existed already.
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
    """Train and export the model, unless it exists already.

    Writes the SavedModel directory `output` and the manifest `output`.json beside it. The directory
    appears under its name only when it is complete.

    Args:
      dataset: the folder that `prepare_flights` wrote.
      output: the SavedModel directory to create; an existing SavedModel is replaced.
      recipe: the network and its dates.

    Raises:
      FileNotFoundError: the data set does not exist.
      FileExistsError: the output holds other files.
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
    """Train the large model for benchmarks: the same inputs and output, about 50 times the work.

    It is trained for one epoch on one month, so its scores are not useful.
    """
    return train_flights(dataset, output, recipe=LARGE)


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve: the share of pairs that scores order correctly.

    Args:
      labels: one per row; true or 1 is the class that should score higher.
      scores: one per row; a tie counts as half.

    Raises:
      ValueError: all labels are equal, or a score is NaN.
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
    """Return the labeled rows of a range of dates, with the nulls of inputs replaced."""
    import pyarrow.dataset as ds  # slow: imports pandas if installed

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
    """Return the mean late rate by hour, carrier and origin; the overall rate if there is none."""
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
    """Return the identity of data, code, recipe and versions, without importing TensorFlow."""
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
    """Return the manifest's model if its key is the same and the model's files are unchanged."""
    try:
        said = TrainedModel(**json.loads(_manifest_path(output).read_text()))
        if said.key == key and digest_model(output) == said.digest:
            return said._replace(path=output, was_cached=True)
    except (FileNotFoundError, TypeError, ValueError):
        pass  # no model, or a manifest of an older format: train again
    return None


def _write_manifest(output: str, made: TrainedModel) -> None:
    path = _manifest_path(output)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.write_text(json.dumps(made._replace(path="")._asdict(), indent=1) + "\n")
    os.replace(partial, path)
