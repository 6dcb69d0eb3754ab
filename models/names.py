"""Names of tensors and columns in options: lists of `NAME` or `NAME=VALUE`, with quotes.

A name may hold any character. One that holds a comma, an equals sign, a bracket or a quote, or
begins or ends with a space, is written in double quotes: `"length, cm"`. A double quote within
them is doubled, as in CSV.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLAIN = re.compile(r"[^\s,=()\"](?:[^,=()\"]*[^\s,=()\"])?\Z")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def quote_name(name: str) -> str:
    """Return a name as it is written in an option: with quotes if it needs them."""
    return name if _PLAIN.match(name) else '"' + name.replace('"', '""') + '"'


def unquote_name(text: str) -> str:
    """Return the name that an option has, without quotes around it."""
    if _QUOTED.fullmatch(text):
        return text[1:-1].replace('""', '"')
    return text


def split_list(text: str) -> list[str]:
    """Return the parts of a list between its commas; a comma within quotes separates nothing."""
    parts, start, at = [], 0, 0
    while at < len(text):
        quoted = _QUOTED.match(text, at) if _may_begin_quote(text, start, at) else None
        if quoted:
            at = quoted.end()
            continue
        if text[at] == ",":
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]


def split_pair(text: str) -> tuple[str, str, str]:
    """Return name, "=" and value of `NAME=VALUE`, like `str.partition`; the name has no quotes."""
    quoted = _QUOTED.match(text)
    if quoted and text[quoted.end() : quoted.end() + 1] in ("", "="):
        name, rest = quoted[0], text[quoted.end() :]
        return unquote_name(name), rest[:1], rest[1:]
    return text.partition("=")


def _may_begin_quote(text: str, start: int, at: int) -> bool:
    """Return whether a quote may begin here: at the begin of a name, not within one."""
    return text[at] == '"' and (not text[start:at].strip() or text[at - 1] in "=(")


def list_names(names: Sequence[str]) -> str:
    """Return names as they are written in an option, separated by commas."""
    return ", ".join(map(quote_name, names))
