"""Finds the number of rows that a graph takes, although its signature leaves it free.

`tf.reshape(x, [32, -1])` is exported under the shape [None, 4], and fails with any other number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from scoreline.models.errors import ModelError
from scoreline.models.signature import Signature

Outputs = Mapping[str, np.ndarray]
# Sizes that people choose, largest first: a graph that takes multiples gets large calls.
_USUAL = (1024, 1000, 512, 500, 256, 200, 128, 100, 64, 50, 32, 25, 20, 16, 10, 8, 5, 4)
# More blank values than this are not worth a guess.
_MAX_VALUES = 1 << 24


def find_fixed_batch(
    signature: Signature, names: Sequence[str], call: Callable[[int], Outputs | None]
) -> tuple[int, Outputs] | None:
    """Return a number of rows that the model takes, and its outputs; None if none is found.

    Args:
      signature: the signature, whose batch is free, but which fails for 1, 2 or 3 rows.
      names: the outputs.
      call: returns the outputs of blank rows; None or a ModelError if the call fails.
    """
    for rows in _candidates(signature, names, call):
        outputs = _try(call, rows)
        if outputs is not None and all(value.shape[:1] == (rows,) for value in outputs.values()):
            return rows, outputs
    return None


def with_batch(signature: Signature, rows: int) -> Signature:
    """Return a signature whose calls have exactly some rows."""
    return signature._replace(
        inputs=tuple(
            spec._replace(shape=(rows, *spec.shape[1:]) if spec.shape else (rows,))
            for spec in signature.inputs
        )
    )


def _candidates(
    signature: Signature, names: Sequence[str], call: Callable[[int], Outputs | None]
) -> Iterable[int]:
    """Return the sizes in the outputs' shapes, then those of outputs for one row, then usual ones.

    Inputs of free size would make large guesses too large.
    """
    known = {spec.shape[0] for spec in signature.outputs if spec.name in names and spec.shape}
    one = _try(call, 1) or {}
    seen = {value.shape[0] for value in one.values() if value.ndim}
    sizes = sorted(size for size in known | seen if size is not None and size > 1)
    values = [spec.row_values for spec in signature.inputs]
    if None in values:
        return sizes
    largest = _MAX_VALUES // max(1, math.prod(max(1, value or 1) for value in values))
    return dict.fromkeys([*sizes, *(size for size in _USUAL if size <= largest)])


def _try(call: Callable[[int], Outputs | None], rows: int) -> Outputs | None:
    try:
        return call(rows)
    except ModelError:
        return None
