"""The variants of a model that `scoreline optimize` made, and the choice of one for a machine.

The folder of variants is whole in itself, so that it can be copied to another machine:

    optimize.json      the report, of which the choice reads parent and variants
    parent/            a copy of the parent
    variants/<name>/   the variants
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from scoreline.models.artifact import digest_model
from scoreline.models.errors import ModelError

PARENT = "parent"
REPORT = "optimize.json"
_CPUINFO = Path("/proc/cpuinfo")


class Choice(NamedTuple):
    """The chosen model.

    Attributes:
      name: the variant's name; "parent" if no variant can be used.
      path: where it is.
      digest: its digest.
      parent_digest: the digest of the parent.
      passed_over: why cheaper variants were not chosen, a sentence each.
    """

    name: str
    path: str
    digest: str
    parent_digest: str
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.name == PARENT:
            return "parent, since no variant is cheaper and as good"
        return f"{self.name}, of the parent {self.parent_digest}"


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the features of this machine's CPU as Linux names them, such as `avx512_bf16`."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(found.partition(":")[2].split())


class _Entry(NamedTuple):
    """A model of the report; `ratio` is its CPU time per row over that of the parent."""

    name: str
    path: Path
    digest: str
    ratio: float = 1.0
    cpu_flags: tuple[str, ...] = ()


def choose_variant(
    folder: str, parent_digest: str | None, flags: Collection[str] | None = None
) -> Choice:
    """Return the cheapest admitted variant whose files are whole and whose CPU features are here.

    Without one, the parent is chosen.

    Args:
      folder: a folder that `scoreline optimize` wrote.
      parent_digest: the digest that the parent must have; None for any.
      flags: features of the CPU that will score; None for those of this machine.

    Raises:
      ModelError: the folder has no report, its parent is not the pinned one, or the parent is
        needed and damaged.
    """
    parent, variants = _read_report(Path(folder))
    if parent_digest not in (None, parent.digest):
        raise ModelError(
            f"--model_digest: expected variants of the parent {parent_digest}, got those of "
            f"{parent.digest} in {folder}. Run `scoreline optimize` for that parent, or pin this "
            "one"
        )
    here = cpu_flags() if flags is None else flags
    passed_over: list[str] = []
    for entry in [*sorted(variants, key=lambda variant: variant.ratio), parent]:
        problem = _find_problem(entry, here)
        if not problem:
            return Choice(
                entry.name, str(entry.path), entry.digest, parent.digest, tuple(passed_over)
            )
        passed_over.append(f"Variant '{entry.name}' is passed over: {problem}")
    raise ModelError(f"--model: no model of {folder} can be used. {'. '.join(passed_over)}")


def _read_report(root: Path) -> tuple[_Entry, list[_Entry]]:
    """Return the parent and the admitted variants."""
    file = root / REPORT
    try:
        report = json.loads(file.read_text())
        parent = _Entry(PARENT, root / report["parent"]["path"], report["parent"]["digest"])
        return parent, [
            _Entry(
                each["name"],
                root / each["path"],
                each["digest"],
                each["cost"]["ratio"]["value"],
                tuple(each["cpu_flags"]),
            )
            for each in report["variants"]
            if each["is_admitted"]
        ]
    except FileNotFoundError as e:
        raise ModelError(
            f"--model: expected a folder of `scoreline optimize` with {REPORT}, got {root}"
        ) from e
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ModelError(
            f"--model: expected the report of `scoreline optimize`, got a damaged file {file}: "
            f"{e!r}. Run the command again"
        ) from e


def _find_problem(entry: _Entry, flags: Collection[str]) -> str:
    """Return why a model of the report cannot be used here; "" if it can."""
    lacking = sorted(set(entry.cpu_flags) - set(flags))
    if lacking:
        return f"expected a CPU with {', '.join(lacking)}"
    try:
        digest = digest_model(str(entry.path))
    except (OSError, ModelError) as e:
        return f"expected a model in {entry.path}, got none: {e}"
    if digest == entry.digest:
        return ""
    return (
        f"expected {entry.digest}, got {digest} for {entry.path}, whose files have changed. Copy "
        "them again"
    )
