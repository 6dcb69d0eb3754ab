"""Parses the project's pages: headings, links and code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_HEADING = re.compile(r"^#{1,6} (.+)$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`]+)`")


class Page(NamedTuple):
    """A page.

    Attributes:
      path: relative to the root, with slashes.
      text: the whole text.
    """

    path: str
    text: str

    @property
    def file(self) -> Path:
        return ROOT / self.path

    def prose(self) -> list[str]:
        """Return the lines that are not code."""
        return [line for line in self.text.split("\n") if not _is_code(line)]

    def links(self) -> list[str]:
        """Return the targets of all links."""
        return [link for line in self.prose() for link in _LINK.findall(_SPAN.sub("", line))]

    def anchors(self) -> set[str]:
        """Return the anchors of the headings, by the rules of code hosts and of the site."""
        headings = [m[1] for line in self.prose() if (m := _HEADING.match(line))]
        return {to_anchor(heading) for heading in headings}

    def code(self) -> Iterator[str]:
        """Yield each line of code (continued lines joined) and each code span."""
        for line in join_lines(self.text):
            if _is_code(line):
                yield line.strip()
            else:
                yield from _SPAN.findall(line)


def join_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text; lines that end with a backslash are joined."""
    return iter(re.sub(r"\\\n\s*", "", text).split("\n"))


def to_anchor(heading: str) -> str:
    """Return the anchor of a heading: lower case, punctuation dropped, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _is_code(line: str) -> bool:
    return line.startswith("    ")


def read_pages() -> list[Page]:
    """Return all pages for readers."""
    files = [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "deploy").rglob("*.md")),
    ]
    return [Page(file.relative_to(ROOT).as_posix(), file.read_text()) for file in files]
