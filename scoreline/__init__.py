"""Score a partitioned data lake, or a Kafka topic, with any TensorFlow model.

The names below are the public API, which docs/api.md shows by examples. Everything else may change
in any version. A name is imported when it is first used: `import scoreline` itself imports neither
Beam nor TensorFlow, and `load` and `open_scores` never need Beam.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoreline.lake.elements import Outcome
    from scoreline.lake.table.scores import open_scores
    from scoreline.transforms.compose import (
        CommitPartitions,
        Partitions,
        ReadPartitions,
        Score,
        StageScores,
    )
    from scoreline.transforms.loaded import LoadedModel, Scores, load
    from scoreline.transforms.rows import ScoreRows

__version__ = "0.2.0"

__all__ = [
    "CommitPartitions",
    "LoadedModel",
    "Outcome",
    "Partitions",
    "ReadPartitions",
    "Score",
    "ScoreRows",
    "Scores",
    "StageScores",
    "__version__",
    "load",
    "open_scores",
]

# The module that each public name is in.
_PLACES = {
    "CommitPartitions": "scoreline.transforms.compose",
    "LoadedModel": "scoreline.transforms.loaded",
    "Outcome": "scoreline.lake.elements",
    "Partitions": "scoreline.transforms.compose",
    "ReadPartitions": "scoreline.transforms.compose",
    "Score": "scoreline.transforms.compose",
    "ScoreRows": "scoreline.transforms.rows",
    "Scores": "scoreline.transforms.loaded",
    "StageScores": "scoreline.transforms.compose",
    "load": "scoreline.transforms.loaded",
    "open_scores": "scoreline.lake.table.scores",
}


if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module 'scoreline' has no attribute '{name}'")
        value = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
