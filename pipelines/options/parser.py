"""A parser of flags that reports errors as problems, without printing or exiting."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection
from typing import Any, NoReturn

from scoreline.pipelines.options.problems import BadOptions

# Minimum similarity, from 0 to 1, for a suggestion of another flag.
_ALIKE = 0.8


class OptionParser(argparse.ArgumentParser):
    """Parses unabbreviated flags, and raises BadOptions for a wrong command line."""

    def __init__(self, **settings: Any) -> None:
        """Accept the arguments of `argparse.ArgumentParser`."""
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise instead of ending the process."""
        raise BadOptions([f"{message}. `{self.prog} --help` lists the options"])


def suggest(flag: str, known: Collection[str]) -> str:
    """Return a suggestion for a misspelled flag; "" if no known flag is similar."""
    found = difflib.get_close_matches(flag, sorted(known), n=1, cutoff=_ALIKE)
    return f"; did you mean {found[0]}?" if found else ""


def add_json(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Declare `--json`, a flag of every command."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object on stdout (see docs/schemas), and everything else on stderr",
    )
