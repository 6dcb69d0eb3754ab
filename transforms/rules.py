"""Rules for outputs: NaN, infinite and out-of-range numbers make a row a dead letter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoreline.models.shapes import is_list


class OutputRule(NamedTuple):
    """The valid numbers of an output; a row with any other number is dead.

    Attributes:
      output: the output tensor.
      forbids_nan: whether NaN is an error.
      forbids_inf: whether infinity is an error.
      low, high: minimum and maximum; NaN is never in the range.
    """

    output: str
    forbids_nan: bool = False
    forbids_inf: bool = False
    low: float = float("-inf")
    high: float = float("inf")

    @property
    def has_range(self) -> bool:
        """Whether the rule has a range."""
        return self.low > float("-inf") or self.high < float("inf")


def find_bad_outputs(
    outputs: Mapping[str, pa.Array], rules: Iterable[OutputRule]
) -> dict[int, str]:
    """Return the reason of each invalid row, by position. Costs one pass per rule."""
    bad: dict[int, str] = {}
    for rule in rules:
        column = outputs[rule.output]
        values, parents = column, None
        while is_list(values.type):
            direct = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
            parents = direct if parents is None else parents[direct]
            values = values.flatten()
        numbers = values.to_numpy(zero_copy_only=False)
        for wrong, what in _find(numbers, rule):
            at = np.flatnonzero(wrong)
            for row, number in zip(
                (at if parents is None else parents[at]).tolist(), numbers[at], strict=True
            ):
                bad.setdefault(row, f"output '{rule.output}' is {number}; {what}")
    return bad


def _find(numbers: np.ndarray, rule: OutputRule) -> Sequence[tuple[np.ndarray, str]]:
    found = []
    if rule.forbids_nan and numbers.dtype.kind == "f":
        found.append((np.isnan(numbers), "--forbid nan"))
    if rule.forbids_inf and numbers.dtype.kind == "f":
        found.append((np.isinf(numbers), "--forbid inf"))
    if rule.has_range:
        within = (numbers >= rule.low) & (numbers <= rule.high)
        found.append((~within, f"--range {rule.output}={rule.low:g}..{rule.high:g}"))
    return found
