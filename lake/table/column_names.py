"""Names of columns in a Delta table: whether the table can hold them all."""

from __future__ import annotations

from collections.abc import Sequence


def find_name_problems(names: Sequence[str]) -> list[str]:
    """Return why a Delta table cannot hold columns of these names; none if it can.

    Delta Lake, and most engines that read it, take `Score` and `score` for one column. All other
    names are kept as they are, but for a zero byte, which ends a name.
    """
    problems = [
        f"a table cannot hold a column whose name has a zero byte: {name!r}"
        for name in dict.fromkeys(names)
        if "\0" in name
    ]
    folded: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        folded.setdefault(name.lower(), []).append(name)
    return problems + [
        f"a table cannot hold the columns {' and '.join(map(repr, equal))} at once: their names "
        "differ in upper and lower case only"
        for equal in folded.values()
        if len(equal) > 1
    ]
