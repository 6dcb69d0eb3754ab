"""Rules of a Delta table that a writer must enforce, and Scoreline's writers do not."""

from __future__ import annotations

from deltalake import DeltaTable

_CONSTRAINT = "delta.constraints."
_MAPPING = "delta.columnMapping.mode"
_RULES_OF_COLUMNS = {
    "delta.invariants": "an invariant",
    "delta.generationExpression": "a generated value",
    "delta.identity.start": "an identity value",
}


def find_rules(table: DeltaTable) -> list[str]:
    """Return a problem for each rule of a table that its new rows might break."""
    metadata = table.metadata()
    problems = [
        f"--output: expected a table without constraints, got {name.removeprefix(_CONSTRAINT)}: "
        f"{rule}. Scores are not checked against it. Drop it, or give another path"
        for name, rule in sorted(metadata.configuration.items())
        if name.startswith(_CONSTRAINT)
    ]
    mapping = metadata.configuration.get(_MAPPING) or "none"
    if mapping != "none":
        problems.append(
            f"--output: expected a table without column mapping, got {_MAPPING}={mapping}. Give "
            "another path"
        )
    problems += [
        f"--output: expected plain columns, got column '{field.name}' with {kind}. Give another "
        "path"
        for field in table.schema().fields
        for name, kind in _RULES_OF_COLUMNS.items()
        if name in (field.metadata or {})
    ]
    return problems


def required_columns(table: DeltaTable) -> list[str]:
    """Return the columns that may not be null."""
    return [field.name for field in table.schema().fields if not field.nullable]
