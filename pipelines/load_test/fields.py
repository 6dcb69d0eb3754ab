"""Reads fields of a YAML file, and collects all their problems: file, line, key, expected, got.

The parser's nodes are read, not Python objects made of them: so a problem has its line, a duplicate
key is found, and the value of a flag stays as it was written (`0.10`, `2013-11-01`, `on`).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from scoreline.pipelines.options.problems import Problems

MAX_FILE_BYTES = 1_000_000
# Minimum similarity, from 0 to 1, for a suggestion of another key.
_ALIKE = 0.6
# Maximum length of a wrong value in a message.
_MAX_SHOWN = 60
_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\Z", re.ASCII)
_NULLS = ("", "~", "null", "Null", "NULL")
_TRUE, _FALSE = ("true", "True", "yes", "on"), ("false", "False", "no", "off")


class Field(NamedTuple):
    """A value and its name in messages.

    Attributes:
      name: such as `profile.yaml, line 3: slos.latency_ms`, or `--latency_ms`.
      node: the value.
    """

    name: str
    node: yaml.Node


def make_field(flag: str, text: str, *, is_list: bool = False) -> Field:
    """Return the value of a flag as a field; a list has commas."""
    if not is_list:
        return Field(flag, yaml.ScalarNode("", text, style=""))
    parts = [yaml.ScalarNode("", part.strip(), style="") for part in text.split(",")]
    return Field(flag, yaml.SequenceNode("", parts))


class FieldReader:
    """Reads the fields of one file. A wrong value becomes a problem, and None.

    Attributes:
      file: the name of the file in messages.
      problems: the list to which problems are added.
    """

    def __init__(self, file: str, problems: Problems) -> None:
        """Read fields of a file, or of flags only if the name is ""."""
        self.file = file
        self.problems = problems

    def load(self) -> Field | None:
        """Return the whole file; None, with a problem, if it is no YAML file."""
        try:
            content = Path(self.file).read_bytes()
            if len(content) > MAX_FILE_BYTES:
                self.problems.add(
                    f"{self.file}: expected at most {MAX_FILE_BYTES:,} bytes, got {len(content):,}"
                )
                return None
            node = yaml.compose(content.decode("utf-8"), Loader=yaml.SafeLoader)
        except OSError as e:
            self.problems.add(f"{self.file}: expected a readable YAML file: {e.strerror}")
        except UnicodeDecodeError as e:
            self.problems.add(f"{self.file}: expected UTF-8 text, got other bytes at {e.start:,}")
        except RecursionError:
            self.problems.add(f"{self.file}: expected a YAML file, got one that is nested too deep")
        except yaml.YAMLError as e:
            self.problems.add(f"{self.file}: expected a YAML file: {_describe(e)}")
        else:
            if node is not None:
                return Field(self.file, node)
            self.problems.add(f"{self.file}: expected keys, got an empty file")
        return None

    def section(
        self,
        field: Field | None,
        path: str = "",
        known: Collection[str] | None = None,
        elsewhere: Mapping[str, str] | None = None,
    ) -> dict[str, Field]:
        """Return the fields of a mapping, by key; unknown and duplicate keys are problems.

        Args:
          field: the mapping; None for an empty one.
          path: its keys from the top of the file, as in `slos`.
          known: the allowed keys; None for any.
          elsewhere: keys that belong into another section, and their places.
        """
        if field is None:
            return {}
        if not isinstance(field.node, yaml.MappingNode):
            self.refuse(field, "keys and values")
            return {}
        found: dict[str, Field] = {}
        for key, value in field.node.value:
            line = f"{self.file}, line {key.start_mark.line + 1}: "
            if not isinstance(key, yaml.ScalarNode):
                self.problems.add(f"{line}{path or 'top level'}: expected keys that are names")
                continue
            name = f"{line}{path}.{key.value}" if path else f"{line}{key.value}"
            if known is not None and key.value not in known:
                place = (elsewhere or {}).get(key.value)
                hint = f"; did you mean {place}?" if place else _suggest(key.value, known)
                self.problems.add(f"{name}: unknown key{hint}")
            elif key.value in found:
                first = found[key.value].name.partition(":")[0].rpartition(" ")[2]
                self.problems.add(f"{name}: expected each key once, got it in line {first} too")
            else:
                found[key.value] = Field(name, value)
        return found

    def refuse(self, field: Field, expected: str) -> None:
        """Add a problem for a value."""
        self.problems.add(f"{field.name}: expected {expected}, got {_show(field.node)}")

    def text(self, field: Field | None, expected: str = "text") -> str | None:
        """Return a text that is not empty."""
        if field is None:
            return None
        if not isinstance(field.node, yaml.ScalarNode) or _is_null(field.node):
            self.refuse(field, expected)
            return None
        return str(field.node.value)

    def raw(self, field: Field) -> str | None:
        """Return a scalar as it was written: `null` is a text, and quotes may hold nothing."""
        node = field.node
        if not isinstance(node, yaml.ScalarNode) or (not node.value and not node.style):
            self.refuse(field, "a value")
            return None
        return str(node.value)

    def flag(self, field: Field) -> bool | None:
        """Return a boolean."""
        text = field.node.value if isinstance(field.node, yaml.ScalarNode) else None
        if text not in (*_TRUE, *_FALSE):
            self.refuse(field, "true or false")
            return None
        return text in _TRUE

    def choice(self, field: Field | None, choices: Collection[str]) -> str | None:
        """Return one of several choices."""
        expected = f"one of {', '.join(choices)}"
        text = self.text(field, expected)
        if field is None or text is None or text in choices:
            return text
        self.problems.add(
            f"{field.name}: expected {expected}, got '{_cut(text)}'{_suggest(text, choices)}"
        )
        return None

    def number(
        self,
        field: Field | None,
        expected: str,
        *,
        above: float = -math.inf,
        low: float = -math.inf,
        high: float = math.inf,
        below: float = math.inf,
    ) -> float | None:
        """Return a finite number within limits."""
        if field is None:
            return None
        value = _to_number(field.node)
        if value is None or not (above < value < below and low <= value <= high):
            self.refuse(field, expected)
            return None
        return value

    def whole(self, field: Field | None, expected: str, low: int, high: int) -> int | None:
        """Return a whole number within limits; `1e9` is one."""
        value = self.number(field, expected, low=low, high=high)
        if field is not None and value is not None and value != int(value):
            self.refuse(field, expected)
            return None
        return None if value is None else int(value)

    def items(self, field: Field | None, expected: str) -> list[Field] | None:
        """Return the values of a list that is not empty; each is named by its place, from 1."""
        if field is None:
            return None
        if not isinstance(field.node, yaml.SequenceNode) or not field.node.value:
            self.refuse(field, expected)
            return None
        nodes: Sequence[yaml.Node] = field.node.value
        return [Field(f"{field.name}, item {at}", node) for at, node in enumerate(nodes, 1)]


def is_list(field: Field) -> bool:
    """Whether a value is a list."""
    return isinstance(field.node, yaml.SequenceNode)


def is_mapping(field: Field) -> bool:
    """Whether a value is a mapping."""
    return isinstance(field.node, yaml.MappingNode)


def _to_number(node: yaml.Node) -> float | None:
    """Return a finite number; None for another value."""
    if not isinstance(node, yaml.ScalarNode) or not _NUMBER.match(node.value):
        return None
    value = float(node.value.replace("_", ""))
    return value if math.isfinite(value) else None


def _is_null(node: yaml.ScalarNode) -> bool:
    return node.value == "" or (not node.style and node.value in _NULLS)


def _show(node: yaml.Node) -> str:
    """Return a value for a message: its kind if it is a list or a mapping."""
    if isinstance(node, yaml.SequenceNode):
        return "a list" if node.value else "an empty list"
    if isinstance(node, yaml.MappingNode):
        return "keys and values" if node.value else "no keys"
    return "nothing" if _is_null(node) else f"'{_cut(node.value)}'"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}…"


def _suggest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=_ALIKE)
    return f"; did you mean {near[0]}?" if near else f"; expected one of {', '.join(known)}"


def _describe(error: yaml.YAMLError) -> str:
    """Return the parser's problem and its place, in one line."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is not valid"
    place = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
    return f"{what}{place}"
