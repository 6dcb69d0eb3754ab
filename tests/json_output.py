"""The JSON object of a command, validated with its schema in docs/schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from tests.fakes import ROOT

SCHEMAS = ROOT / "docs" / "schemas"


def read_schema(kind: str) -> dict[str, Any]:
    """Return the schema of a kind of object, for example `table_status`."""
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{kind}-1.json").read_text("utf-8"))
    return schema


def read_object(kind: str, out: str, code: int) -> dict[str, Any]:
    """Return the only object that a command printed; check its schema and its exit code."""
    document: dict[str, Any] = json.loads(out)
    jsonschema.Draft202012Validator(read_schema(kind)).validate(document)
    assert document["schema"] == f"scoreline.{kind}/1"
    assert document["exit_code"] == code
    return document
