"""Suggestions for columns that are misspelled: `did you mean 'ID'?`."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

import pyarrow as pa

_ALIKE = 0.75
_NUMBERS = re.compile(r"\d+")


def paths_of(schema: pa.Schema) -> list[str]:
    """Return the columns of a table, and the fields of structs as `parent.child`."""
    return [path for field in schema for path in _paths(field.name, field.type)]


def _paths(path: str, kind: pa.DataType) -> list[str]:
    children = kind if pa.types.is_struct(kind) else ()
    return [path, *(inner for f in children for inner in _paths(f"{path}.{f.name}", f.type))]


def folded(name: str) -> str:
    """Return a name without differences of case, of Unicode's forms, and of spaces around it."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def find_twin(name: str, known: Iterable[str]) -> str:
    """Return a known name that differs in case or the like only; "" if there is none."""
    return next((other for other in known if other != name and folded(other) == folded(name)), "")


def find_similar(name: str, known: Iterable[str]) -> str:
    """Return the known name that a name may mean; "" if none is similar.

    Names whose numbers differ are other names: `x1` is not `x2`.
    """
    names = list(known)
    if twin := find_twin(name, names):
        return twin
    numbers = _NUMBERS.findall(name)
    by_folded = {folded(n): n for n in reversed(names) if _NUMBERS.findall(n) == numbers}
    found = difflib.get_close_matches(folded(name), sorted(by_folded), n=1, cutoff=_ALIKE)
    return by_folded[found[0]] if found and by_folded[found[0]] != name else ""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean '…'?` for a name that is not known; "" if none is similar."""
    similar = find_similar(name, known)
    return f"; did you mean '{similar}'?" if similar else ""
