"""Top-level columns of paths into structs."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa


def column_of(schema: pa.Schema, path: str) -> str:
    """Return the top-level column of a path."""
    while path not in schema.names and "." in path:
        path = path.rpartition(".")[0]
    return path


def top_columns(schema: pa.Schema, paths: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct top-level columns of paths, in order."""
    return tuple(dict.fromkeys(column_of(schema, path) for path in paths))
