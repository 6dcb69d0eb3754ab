"""The types of the columns that are copied to the scores, where files differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from scoreline.lake.files.types import common_type, holds_null, plain_type
from scoreline.lake.table.types import key_type, storable_type
from scoreline.models.mapping import find_field
from scoreline.models.suggest import paths_of, suggest
from scoreline.pipelines.options.problems import Problems

_MAX_NAMED = 5


def find_storable(
    flag: str, column: str, schema: pa.Schema, others: Sequence[str]
) -> tuple[pa.DataType | None, str]:
    """Return the type of a copied column, and the reason if it cannot be copied."""
    found = find_field(schema, column)
    if not found:
        hint = suggest(column, [*paths_of(schema), *others])
        return None, f"{flag}: the table has no column '{column}'{hint}"
    if len(found) > 1:
        return None, f"{flag}: the table has {len(found)} columns '{column}'"
    try:
        if not holds_null(found[0]):  # others may tell the type
            (key_type if flag == "--keys" else storable_type)(found[0])
    except ValueError as e:
        return None, f"{flag}: column '{column}': {e}"
    return found[0], ""


def choose_type(
    column: str,
    kinds: Mapping[pa.DataType, Sequence[str]],
    known: pa.Schema,
    problems: Problems,
) -> pa.DataType | None:
    """Return the type of a copied column: one that holds all values; None, with a problem, if none.

    Args:
      column: its name.
      kinds: its types, each with the partitions that have it.
      known: the columns of the table of scores. A type of it is taken if it holds all values.
      problems: the list to which a problem is added.
    """
    there = known.field(column).type if column in known.names else None
    if not kinds:
        return there or pa.string()
    first = next(iter(kinds))
    forms = [kind if holds_null(kind) else storable_type(kind) for kind in kinds]
    chosen = first if len(set(forms)) == 1 else common_type(forms)
    if chosen is None:
        problems.add(
            f"column '{column}' cannot be copied to one table: it is {_places(kinds)}. "
            "Cast it in the table, or leave it out of --keep"
        )
        return None
    if there is not None and common_type([chosen, there]) == plain_type(there):
        return there
    if holds_null(chosen):
        problems.add(
            f"column '{column}' cannot be copied: its values are all null (as {chosen}), so its "
            "type is unknown. Write it with a type, or leave it out"
        )
        return None
    return chosen


def _places(kinds: Mapping[pa.DataType, Sequence[str]]) -> str:
    places: dict[str, list[str]] = {}
    for kind, at in kinds.items():
        places.setdefault(str(plain_type(kind)), []).extend(at)
    return " and ".join(f"{kind} in {name_places(at, 0)}" for kind, at in places.items())


def name_places(paths: Sequence[str], total: int) -> str:
    """Return the names of some places; `total` is how many there are in all."""
    distinct = sorted(set(paths))
    if len(distinct) == total:
        return distinct[0] if total == 1 else f"all {total} partitions"
    names = ", ".join(distinct[:_MAX_NAMED])
    more = len(distinct) - _MAX_NAMED
    return f"{names} and {more} more" if more > 0 else names
