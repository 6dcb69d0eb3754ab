"""Whether a model can replace another: compare signatures, and measure how far scores differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.outputs import output_type
from scoreline.models.shapes import is_list
from scoreline.models.signature import Signature, TensorSpec

# An output whose spread is below this share of its magnitude counts as constant.
_NO_SPREAD = 1e-6


def find_differences(
    planned: Signature, new: Signature, outputs: Sequence[tuple[str, str]], *, all_outputs: bool
) -> list[str]:
    """Return why a model cannot be fed, or its outputs stored, as a job was planned.

    Inputs must have the same names and dtypes, and accept every value that the planned inputs
    accept. Outputs must become columns of the same types. A fixed dimension may have become free.

    Args:
      planned: the signature that the job was planned with.
      new: the signature of the other model.
      outputs: pairs of a stored output and its conversion, `binary` or "" (see `output_type`).
      all_outputs: whether all outputs are stored, so that a new output is a difference.
    """
    found = []
    if planned.example_input != new.example_input:
        found.append(
            f"input of serialized tf.Examples is '{new.example_input}', was "
            f"'{planned.example_input}'"
        )
    inputs = {spec.name: spec for spec in new.inputs}
    for spec in planned.inputs:
        other = inputs.pop(spec.name, None)
        if other is None:
            found.append(f"input '{spec.name}' is missing")
        elif not _takes(other, spec):
            found.append(f"input '{spec.name}' is {_described(other)}, was {_described(spec)}")
    found += [f"input '{name}' is new" for name in inputs]
    known = {spec.name: spec for spec in planned.outputs}
    given = {spec.name: spec for spec in new.outputs}
    for name, conversion in outputs:
        if name not in given:
            found.append(f"output '{name}' is missing")
            continue
        was, now = (output_type(specs[name], conversion) for specs in (known, given))
        if was != now:
            found.append(f"output '{name}' gives {now}, gave {was}")
    if all_outputs:
        found += [f"output '{name}' is new" for name in given if name not in known]
    return found


def _described(spec: TensorSpec) -> str:
    return f"{spec}, optional" if spec.optional else str(spec)


def _takes(new: TensorSpec, old: TensorSpec) -> bool:
    """Return whether an input accepts every value that another one accepts."""
    if new.dtype != old.dtype or (old.optional and not new.optional):
        return False
    if new.shape is None or (new.is_one_value and old.is_one_value):
        return True
    if old.shape is None or len(new.row_shape) != len(old.row_shape):
        return False
    return all(
        wants in (None, size) for wants, size in zip(new.row_shape, old.row_shape, strict=True)
    )


def disagreement_of(old: pa.Array, new: pa.Array) -> float:
    """Return how far two models' values of one output differ, row by row; 0 if they are equal.

    For floating-point numbers this is the mean absolute difference, in standard deviations of the
    old values. Two unrelated models whose scores have the same distribution differ by about 1.1. If
    the share of numbers that are finite in only one model is larger, it counts instead. For all
    other types it is the share of values that differ. Nested values count one by one; if two lists
    differ in length, all their values differ.
    """
    if not len(old):
        return 0.0
    if is_list(old.type):
        same = pc.equal(pc.list_value_length(old), pc.list_value_length(new))
        apart = 1.0 - pc.mean(same).as_py()
        within = disagreement_of(old.filter(same).flatten(), new.filter(same).flatten())
        return float(apart + (1.0 - apart) * within if apart < 1.0 else 1.0)
    if pa.types.is_floating(old.type):
        return _standardized(
            *(np.asarray(column.to_numpy(zero_copy_only=False), float) for column in (old, new))
        )
    differ = pc.coalesce(pc.not_equal(old, new), pc.not_equal(pc.is_null(old), pc.is_null(new)))
    return float(pc.mean(differ).as_py())


def _standardized(old: np.ndarray, new: np.ndarray) -> float:
    finite = np.isfinite(old) & np.isfinite(new)
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    one_sided = float(np.mean(~finite & ~same))
    if not finite.any():
        return one_sided
    with np.errstate(over="ignore", invalid="ignore"):
        moved = float(np.mean(np.abs(new[finite] - old[finite])))
        spread = max(float(np.std(old[finite])), _NO_SPREAD * float(np.mean(np.abs(old[finite]))))
    if not moved:
        return one_sided
    return max(one_sided, moved / spread) if 0 < spread < math.inf else math.inf
