"""What an optimization found: the parent, the variants, and which one was chosen."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping

from scoreline.models.compare.gate import Verdict
from scoreline.models.variants import PARENT
from scoreline.pipelines.optimize.own_process import Start
from scoreline.pipelines.optimize.recipes import Pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A model, its size, and what a process of its own needs for it.

    Attributes:
      path: relative to the folder of the optimization.
      digest: of its files.
      size_bytes: of its files.
      compressed_bytes: of its files, each compressed by zlib, as a store would have them.
      start: CPU time until the first score, and peak memory.
    """

    path: str
    digest: str
    size_bytes: int
    compressed_bytes: int
    start: Start


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstRow:
    """A row whose scores by parent and variant are far apart: its keys, and how far."""

    keys: Mapping[str, object]
    difference: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A variant and the verdict on it.

    Attributes:
      name: its passes, joined by `+`.
      model: its files.
      passes: what made it, in order.
      verdict: whether it may replace the parent.
      worst_rows: the rows with the largest differences, the largest first.
    """

    name: str
    model: Measured
    passes: tuple[Pass, ...]
    verdict: Verdict
    worst_rows: tuple[WorstRow, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refused:
    """A recipe that makes no variant of this model, or one that cannot be judged, and why."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimized:
    """The result of an optimization.

    Attributes:
      started: when it began.
      seconds: how long it took.
      source: the path of the parent, as it was given.
      parent: the copy of the parent.
      rows: rows that were compared.
      partitions: partitions that they are from.
      rows_found: rows of these partitions; None if not all were counted.
      rows_without_label: rows that were left out, since their label is null.
      tolerance: how much worse a variant may be, as it was given.
      variants: the variants, the cheapest first.
      refused: recipes without a variant.
    """

    started: datetime.datetime
    seconds: float
    source: str
    parent: Measured
    rows: int
    partitions: int
    rows_found: int | None
    rows_without_label: int
    tolerance: str
    variants: tuple[Variant, ...]
    refused: tuple[Refused, ...]

    @property
    def chosen(self) -> str:
        """The name of the variant that `auto:` takes; `parent` if none is admitted."""
        return next((v.name for v in self.variants if v.verdict.admitted), PARENT)
