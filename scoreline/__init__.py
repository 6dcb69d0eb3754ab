"""Score a partitioned data lake, or a Kafka topic, with any TensorFlow model.

The names below are the public API, which docs/api.md shows by examples. Everything else may change
in any version. A name is imported when it is first used: `import scoreline` itself imports neither
Beam nor TensorFlow, and `load` and `open_scores` never need Beam.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoreline.lake.table.scores import open_scores
    from scoreline.transforms.loaded import LoadedModel, Scores, load
    from scoreline.transforms.rows import ScoreRows

__version__ = "0.2.0"

__all__ = [
    "LoadedModel",
    "ScoreRows",
    "Scores",
    "__version__",
    "load",
    "open_scores",
]

# Where each public name is, and what it is called there.
_PLACES = {
    "LoadedModel": ("scoreline.transforms.loaded", "LoadedModel"),
    "ScoreRows": ("scoreline.transforms.rows", "ScoreRows"),
    "Scores": ("scoreline.transforms.loaded", "Scores"),
    "load": ("scoreline.transforms.loaded", "load"),
    "open_scores": ("scoreline.lake.table.scores", "open_scores"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'scoreline' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
