"""Reports of a command: text for users, or one JSON object for programs."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scoreline import __version__
from scoreline.pipelines.report.console import make_console, say

if TYPE_CHECKING:
    from rich.console import Console

# Commands whose `--check` has its own object.
_CHECKED = ("batch", "stream")


class Reporter:
    """The reporter of one command. With JSON, stdout has only the object.

    Attributes:
      kind: the name of the object's schema, for example `table_status` for
        docs/schemas/table_status-1.json.
    """

    def __init__(self, kind: str, *, as_json: bool = False, quiet: bool = False) -> None:
        """Set the form of reports; consoles are created when they are needed.

        Args:
          kind: the kind of the object.
          as_json: whether to print only the object on stdout.
          quiet: whether to print no results as text.
        """
        self.kind = kind
        self._as_json = as_json
        self._quiet = quiet

    @functools.cached_property
    def console(self) -> Console:
        """The console for results and progress."""
        return make_console(stderr=self._as_json, quiet=self._quiet)

    @functools.cached_property
    def errors(self) -> Console:
        """The console for errors."""
        return make_console(stderr=True)

    def show(self, print_on: Callable[[Console], object]) -> None:
        """Print a result as text; with JSON, do nothing."""
        if not self._as_json:
            print_on(self.console)

    def tell(self, *sentences: str) -> None:
        """Print sentences as text; with JSON, do nothing."""
        for sentence in sentences:
            self.show(functools.partial(say, text=sentence))

    def end(
        self,
        exit_code: int,
        fields: Mapping[str, Any] | None = None,
        problems: Sequence[str] = (),
        advice: str = "",
    ) -> int:
        """Print the problems, and with JSON the object; return the exit code.

        Args:
          exit_code: the exit code of the command.
          fields: the fields of the object's schema, if the command did something.
          problems: the problems, one sentence each.
          advice: the next action of the user.
        """
        if len(problems) > 1:
            sys.stderr.write(f"{len(problems)} things are wrong:\n")
        for sentence in (*problems, *([advice] if advice else [])):
            sys.stderr.write(f"{sentence}\n")
        if self._as_json:
            head = {
                "schema": f"scoreline.{self.kind}/1",
                "version": __version__,
                "exit_code": exit_code,
                "problems": list(problems),
            }
            document = _plain({**head, **(fields or {})})
            sys.stdout.write(json.dumps(document, indent=1, allow_nan=False) + "\n")
        return exit_code


def make_reporter(name: str, argv: Sequence[str]) -> Reporter:
    """Return the reporter for the command line of a command."""
    is_check = "--check" in argv and name in _CHECKED
    kind = name.replace("-", "_")
    return Reporter(f"{kind}_check" if is_check else kind, as_json="--json" in argv)


def _plain(value: Any) -> Any:
    """Return a value for JSON: bytes as hex digits, NaN and infinity as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
