"""The order of partition values in time or number; a value that has none is never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_INTEGER = re.compile(r"-?\d+\Z")
_DECIMAL = re.compile(r"(-?\d{1,3}|-?\d{5,})\.(\d+)\Z")  # 2024.10 is a month
_NUMBERS = re.compile(r"\d+")
_OFFSET = re.compile(r"(?<=\d)([+-]\d{2}:?\d{2})\Z")
_YEAR = re.compile(r"(19|20)\d\d")
# The parts of a date that begins with a year come before fractions of a second.
_PARTS_OF_TIME = 6
_DATE_PARTS = 3
_COMPACT_DATES = range(5, 9)


class Order(NamedTuple):
    """The place of a value among those of the same shape.

    Attributes:
      shape: the value without its numbers; two values compare only if their shapes are equal.
      key: its numbers, in order.
    """

    shape: str
    key: tuple[int, ...]


def order_of(text: str) -> Order | None:
    """Return the place of a value; None if its order is unknown.

    Whole numbers are ordered as numbers, and so are numbers within a text: `2024-2-29` is before
    `2024-10-1`, and `week 9` before `week 10`. Dates that do not begin with the year, and texts
    without numbers, have no known order.
    """
    if _INTEGER.match(text):
        return Order("#", (int(text),))
    if decimal := _DECIMAL.match(text):
        digits = len(decimal[2])  # 1.9 and 1.10 are decimals or versions: not to be compared
        return Order(f"#.{'#' * digits}", (int(text.replace(".", "")),))
    numbers = _NUMBERS.findall(text)
    offset = _OFFSET.search(text) if len(numbers) > _DATE_PARTS + 1 else None
    if offset:
        numbers = _NUMBERS.findall(text[: offset.start()])
    between = _NUMBERS.split(text)
    if not numbers or _is_ambiguous(numbers, between):
        return None
    shape = "#".join(between) + (offset[1] if offset else "")
    if len(numbers) > _PARTS_OF_TIME and between[_PARTS_OF_TIME] in (".", ","):
        numbers[_PARTS_OF_TIME] = numbers[_PARTS_OF_TIME].ljust(9, "0")
    return Order(shape, tuple(map(int, numbers)))


def _is_ambiguous(numbers: list[str], between: list[str]) -> bool:
    """Return whether numbers may be a date with day or month first."""
    if _YEAR.fullmatch(numbers[0]) or len(numbers) == 1:
        return False
    if any(_YEAR.fullmatch(number) for number in numbers[1:_DATE_PARTS]):
        return True
    return between[1] in ("-", "/", ".") and not between[0]


def orders_of(texts: Iterable[str]) -> dict[str, Order] | None:
    """Return the places of the values of a column; None if their order is unknown."""
    orders = {text: order_of(text) for text in set(texts)}
    known = {text: order for text, order in orders.items() if order is not None}
    if len(known) < len(orders) or len({order.shape for order in known.values()}) > 1:
        return None
    lengths = {len(text) for text in known}
    if (
        len(lengths) > 1
        and lengths <= set(_COMPACT_DATES)
        and all(_INTEGER.match(text) and _YEAR.match(text) for text in known)
    ):
        return None  # 2024101 may be the first of October, or the first of January
    return known
