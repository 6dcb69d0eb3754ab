"""What an impure model does, and what to do about it, in words."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Kind(enum.Enum):
    """What the score of a row depends on, beside the row."""

    AGAIN = "again"
    STATE = "state"
    CHANCE = "randomness"
    NEIGHBOURS = "neighbours"
    PADDING = "padding"
    PLACE = "place"
    SIZE = "size"
    FAILS = "failure"


_CAUSES = {
    Kind.STATE: "the model carries a state from call to call",
    Kind.AGAIN: "the model is not repeatable",
    Kind.CHANCE: "the model draws random numbers",
    Kind.NEIGHBOURS: "rows of a call influence each other",
    Kind.PADDING: "the padding of input {inputs} changes scores",
    Kind.PLACE: "the score depends on the row's place in its call",
    Kind.SIZE: "the score depends on the number of rows in its call",
    Kind.FAILS: "the model scores the rows only in calls of some sizes",
}
_ADVICE = {
    Kind.STATE: (
        "Export the model without a state (stateful=False; no counter, no variable that a call "
        "assigns)"
    ),
    Kind.AGAIN: "Export the model for inference (training=False)",
    Kind.CHANCE: "Export the model for inference (training=False, without dropout or sampling)",
    Kind.NEIGHBOURS: (
        "Export the model for inference (training=False, so that BatchNormalization uses its "
        "moving averages), and without computations over the first axis (mean, softmax, attention)"
    ),
    Kind.PADDING: (
        "Give the length that the model was trained with by --pad_length {first}=N, mask the "
        "padding in the model, or score rows one by one with --batch_rows 1"
    ),
    Kind.PLACE: (
        "Export the model for inference (training=False: dropout with a fixed seed depends on the "
        "place), and without computations from row to row"
    ),
    Kind.SIZE: "Export the model without a fixed number of rows in its graph",
    Kind.FAILS: (
        "Give a number of rows that it takes with --batch_rows N, or export it for any number, or "
        "with a fixed one (batch_size=N in its input), to which calls are filled up"
    ),
}


class Impurity(NamedTuple):
    """A row whose score is not its own.

    Attributes:
      kind: what the score depends on.
      output: the output that differs.
      row: the position of the row in the sample.
      scores: its score in a call of the whole sample, and in the other call, as text.
      calls: the two calls in words.
      differ, compared: how many of the compared rows differ.
      apart: the largest difference; infinite for NaN, 1 for values that are no floats.
      spread: the standard deviation of the output over the rows.
      inputs: the padded inputs, if the padding changes the score.
      error: the error of the other call, if it fails.
    """

    kind: Kind
    output: str
    row: int
    scores: tuple[str, str]
    calls: tuple[str, str]
    differ: int
    compared: int
    apart: float
    spread: float
    inputs: tuple[str, ...] = ()
    error: str = ""

    def describe(self, key: str = "") -> str:
        """Return a sentence for the user; `key` identifies the row, as in `event_id=17`."""
        return _describe(self._asdict(), key)


def _describe(found: Mapping[str, Any], key: str) -> str:
    """Return a sentence about an impurity: expected, got, where, and what to do."""
    kind: Kind = found["kind"]
    names = {
        "inputs": " and ".join(f"'{name}'" for name in found["inputs"]),
        "first": next(iter(found["inputs"]), "T"),
    }
    cause, advice = _CAUSES[kind].format(**names), _ADVICE[kind].format(**names)
    row = f"the row {key}" if key else f"row {found['row']} of the sample"
    (whole, other), (one, two) = found["calls"], found["scores"]
    head = "--model: expected the score of each row to be its own, but "
    tail = f"{advice}; or go on with --allow_impure REASON"
    if kind is Kind.FAILS:
        return (
            f"{head}{cause}: {row} is scored {whole}, and fails {other}: "
            f"{' '.join(found['error'].split())}. {tail}"
        )
    how = ", ".join(filter(None, [_how_many(found), _how_far(found)]))
    return (
        f"{head}{cause}: output '{found['output']}' of {row} is {one} {whole}, and {two} {other}"
        f"{f' ({how})' if how else ''}. {tail}"
    )


def _how_many(found: Mapping[str, Any]) -> str:
    differ, compared = found["differ"], found["compared"]
    return f"{differ:,} of {compared:,} rows differ" if compared > 1 else ""


def _how_far(found: Mapping[str, Any]) -> str:
    apart, spread = found["apart"], found["spread"]
    if not spread or not math.isfinite(apart):
        return ""
    return f"by up to {apart:.3g}; the output's standard deviation is {spread:.3g}"
