"""Names of columns in a Delta table: whether the table can hold them all."""

from __future__ import annotations

from collections.abc import Sequence

# Columns that Delta Lake adds to what it returns as changes of a table.
_RESERVED = {"_change_type", "_commit_version", "_commit_timestamp"}


def find_name_problems(names: Sequence[str]) -> list[str]:
    """Return why a Delta table cannot hold columns of these names; none if it can.

    Delta Lake, and most engines that read it, take `Score` and `score` for one column.
    """
    problems = [
        f"a table cannot hold a column named '{name}'"
        + (": Delta Lake reserves the name" if name.lower() in _RESERVED else "")
        for name in dict.fromkeys(names)
        if not name or name.lower() in _RESERVED
    ]
    folded: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        folded.setdefault(name.casefold(), []).append(name)
    return problems + [
        f"a table cannot hold the columns {' and '.join(map(repr, equal))} at once: their names "
        "differ in upper and lower case only"
        for equal in folded.values()
        if len(equal) > 1
    ]
