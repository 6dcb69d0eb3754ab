"""Finds the number of rows that a graph takes, although its signature leaves it free.

`tf.reshape(x, [32, -1])` is exported under the shape [None, 4], and fails with any other number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from scoreline.models.errors import ModelError
from scoreline.models.signature import Signature
from scoreline.models.strings import Output

Outputs = Mapping[str, Output]
# Sizes that people choose.
_USUAL = (1024, 1000, 512, 500, 256, 200, 128, 100, 64, 50, 32, 25, 20, 16, 10, 8, 5, 4)
# More blank values than this are not worth a guess.
_MAX_VALUES = 1 << 24
_MAX_DOUBLED = 1024
# A larger number in a message is no number of rows.
_MAX_TOLD = 1 << 16


def find_fixed_batch(
    signature: Signature,
    names: Sequence[str],
    call: Callable[[int], Outputs | None],
    rejection: Callable[[], str] = lambda: "",
) -> tuple[int, Outputs] | None:
    """Return a number of rows that the model takes, and its outputs; None if none is found.

    Args:
      signature: the signature, whose batch is free, but which fails for 1, 2 or 3 rows.
      names: the outputs.
      call: returns the outputs of blank rows; None or a ModelError if the call fails.
      rejection: returns the model's message about the last call that returned None.
    """
    found = None
    for rows in _candidates(signature, names, call, rejection):
        outputs = _take(call, rows)
        while outputs is not None:  # a graph that takes multiples gets large calls
            found = rows, outputs
            rows *= 2
            outputs = _take(call, rows) if rows <= _MAX_DOUBLED else None
        if found is not None:
            break
    return found


def with_batch(signature: Signature, rows: int) -> Signature:
    """Return a signature whose calls have exactly some rows."""
    return signature._replace(
        inputs=tuple(
            spec._replace(shape=(rows, *spec.shape[1:]) if spec.shape else (rows,))
            for spec in signature.inputs
        )
    )


def _candidates(
    signature: Signature,
    names: Sequence[str],
    call: Callable[[int], Outputs | None],
    rejection: Callable[[], str],
) -> Iterable[int]:
    """Return the sizes in the outputs' shapes, in outputs for one row, in messages, usual ones.

    Inputs of free size would make large guesses too large.
    """
    known = {spec.shape[0] for spec in signature.outputs if spec.name in names and spec.shape}
    one = _try(call, 1) or {}
    known |= {value.shape[0] for value in one.values() if value.ndim}
    sizes = sorted(size for size in known if size is not None and size > 1)
    per_row = [spec.row_values for spec in signature.inputs]
    if None in per_row:
        return sizes
    values = [max(1, count or 1) for count in per_row]
    told = _numbers_in(rejection() if not one else "", values)
    largest = _MAX_VALUES // max(1, *values, 1)
    return dict.fromkeys(size for size in (*sizes, *told, *_USUAL) if size <= largest)


def _numbers_in(message: str, values: Sequence[int]) -> list[int]:
    """Return what may be a number of rows in "the requested shape has 256" for one row of 8."""
    found: list[int] = []
    for text in re.findall(r"(?<![\w.])\d{1,7}(?![\w.])", message):
        found += [int(text), *(int(text) // count for count in values if not int(text) % count)]
    return sorted({size for size in found if 1 < size <= _MAX_TOLD})


def _take(call: Callable[[int], Outputs | None], rows: int) -> Outputs | None:
    """Return outputs that have one entry for each row; None for others."""
    outputs = _try(call, rows)
    if outputs is None or any(value.shape[:1] != (rows,) for value in outputs.values()):
        return None
    return outputs


def _try(call: Callable[[int], Outputs | None], rows: int) -> Outputs | None:
    try:
        return call(rows)
    except ModelError:
        return None
