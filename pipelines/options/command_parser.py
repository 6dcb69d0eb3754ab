"""The parser of a command, with its flags in groups."""

from __future__ import annotations

import argparse

from scoreline.pipelines.options.parser import OptionParser


class CommandParser(OptionParser):
    """A parser whose families of flags may share groups.

    It uses no `choices`, because argparse would stop at the first problem, and we report all.
    """

    def __init__(self, usage: str, description: str) -> None:
        """Set the usage and the description."""
        super().__init__(
            prog=" ".join(usage.split()[:2]),
            usage=usage,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._by_title: dict[str, argparse._ArgumentGroup] = {}

    def group(self, title: str) -> argparse._ArgumentGroup:
        """Return the group of flags with a title; several families may share it."""
        if title not in self._by_title:
            self._by_title[title] = self.add_argument_group(title)
        return self._by_title[title]

    @property
    def flags(self) -> frozenset[str]:
        """All flags except `--help`."""
        names = (name for action in self._actions for name in action.option_strings)
        return frozenset(name for name in names if name not in ("-h", "--help"))


# Titles of groups that several families share.
WHAT = "what is scored"
MODEL = "with which model"
WHERE = "where scores go"
HOW = "how it runs"
