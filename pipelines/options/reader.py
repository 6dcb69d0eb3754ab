"""Parses option values, and collects their problems."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from scoreline.lake.files.partitions import PartitionSpec
from scoreline.models.artifact import DIGEST_PREFIX
from scoreline.models.names import split_list, split_pair, unquote_name
from scoreline.pipelines.options.problems import Problems

_SECRET_NAMES = re.compile(r"(?i)(^|[&_-])\w*(token|secret|password|passwd|key|sig|signature)\w*=")


def find_secret(flag: str, uri: str) -> str:
    """Return the problem of a URI with a secret, without the secret; "" if it has none.

    Paths are printed, logged and recorded. Credentials must come from the environment.
    """
    parts = urlsplit(uri) if "://" in uri else None
    if parts is None or not (parts.password or _SECRET_NAMES.search(parts.query)):
        return ""
    return (
        f"{flag}: expected a URI without a secret, got one with a password or token: "
        f"{parts.scheme}://{parts.hostname}{parts.path}. Paths are printed and logged; set "
        "credentials in the environment, like the tools of the cloud"
    )


class OptionReader:
    """Reads option values and collects all their problems."""

    def __init__(self, problems: Problems, needs: Sequence[str] = ()) -> None:
        """Read the flags of a command; `needs` are the required ones."""
        self.problems = problems
        self._needs = needs

    def required(self, flag: str, value: str | None) -> str:
        """Return a required value."""
        if not value and flag in self._needs:
            self.problems.add_usage(f"{flag} is required")
        return value or ""

    def place(self, flag: str, value: str | None) -> str:
        """Return a required path or URI without a secret."""
        problem = find_secret(flag, value or "")
        if problem:
            self.problems.add(problem)
        return self.required(flag, value)

    def local(self, flag: str, value: str) -> str:
        """Return a path of this machine."""
        if "://" in value:
            self.problems.add(f"{flag}: expected a local path, got {value}. Copy it first")
        return value

    def names(self, flag: str, text: str) -> tuple[str, ...]:
        """Return comma-separated names."""
        names = tuple(unquote_name(name.strip()) for name in split_list(text)) if text else ()
        if "" in names:
            self.problems.add(f"{flag}: expected names separated by commas, got '{text}'")
        return names

    def pairs(self, flag: str, texts: Sequence[str] | None, form: str) -> dict[str, str]:
        """Return pairs of `NAME=VALUE` from comma-separated texts; values keep their quotes."""
        pairs: dict[str, str] = {}
        for text in (part for given in texts or () for part in split_list(given)):
            left, equals, right = split_pair(text)
            if not equals or not left or not right:
                self.problems.add(f"{flag}: expected {form}, got '{text}'")
            elif left in pairs:
                self.problems.add(f"{flag}: {left} is given twice")
            else:
                pairs[left] = right
        return pairs

    def values(
        self, flag: str, texts: Sequence[str] | None, form: str = "T=VALUE"
    ) -> dict[str, str]:
        """Return values by name, from texts such as `T=VALUE`."""
        values: dict[str, str] = {}
        for text in texts or ():
            name, equals, value = split_pair(text)
            if not equals or not name:
                self.problems.add(f"{flag}: expected {form}, got '{text}'")
            elif name in values:
                self.problems.add(f"{flag}: {name} is given twice")
            values[name] = value
        return values

    def files(self, flag: str, paths: Sequence[str] | None) -> tuple[str, ...]:
        """Return the absolute paths of existing files."""
        for path in paths or ():
            if not os.path.isfile(path):
                self.problems.add(f"{flag}: expected a file, got {path}")
        return tuple(os.path.abspath(path) for path in paths or ())

    def file(self, flag: str, path: str | None) -> str | None:
        """Return the absolute path of an existing file; None if it is not given."""
        return next(iter(self.files(flag, [path] if path else [])), None)

    def choice(self, flag: str, text: str, choices: Sequence[str]) -> str:
        """Return one of several choices."""
        if text not in choices:
            self.problems.add(f"{flag}: expected one of {', '.join(choices)}, got '{text}'")
        return text

    def outputs(self, texts: Sequence[str] | None) -> dict[str, str] | None:
        """Return the columns of outputs by output; None for all."""
        if not texts:
            return None
        parts = [part for text in texts for part in split_list(text)]
        whole = [part if split_pair(part)[1] else f"{part}={part}" for part in parts]
        return self.pairs("--outputs", whole, "T or T=C")

    def specs(self, texts: Sequence[str] | None) -> tuple[PartitionSpec, ...]:
        """Return the specifications of partitions."""
        specs = []
        for text in texts or ():
            try:
                specs.append(PartitionSpec(text))
            except ValueError as e:
                self.problems.add(str(e))
        return tuple(specs)

    def digest(self, text: str | None) -> str | None:
        """Return a digest of a model."""
        digits = (text or "").removeprefix(DIGEST_PREFIX)
        if text and (len(digits) != 64 or not text.startswith(DIGEST_PREFIX)):
            self.problems.add(
                f"--model_digest: expected {DIGEST_PREFIX} and 64 hex digits, got '{text}'"
            )
        return text

    def forbidden(self, text: str) -> tuple[str, ...]:
        """Return the forbidden kinds of numbers."""
        names = self.names("--forbid", text)
        if set(names) - {"nan", "inf"}:
            self.problems.add(f"--forbid: expected nan, inf or both, got '{text}'")
        return names

    def ranges(self, texts: Sequence[str] | None) -> dict[str, tuple[float, float]]:
        """Return ranges by output."""
        ranges: dict[str, tuple[float, float]] = {}
        for text in texts or ():
            name, _, bounds = split_pair(text)
            low, dots, high = bounds.partition("..")
            try:
                ranges[name] = (float(low or "-inf"), float(high or "inf"))
            except ValueError:
                dots = ""
            if not dots or not name or not ranges[name][0] <= ranges[name][1]:
                self.problems.add(
                    f"--range: expected T=FROM..TO with FROM at most TO, got '{text}'"
                )
        return ranges

    def ratio(self, flag: str, text: str) -> float:
        """Return a number from 0 to 1."""
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            self.problems.add(f"{flag}: expected a number from 0 to 1, got '{text}'")
        return value

    def positive(self, flag: str, text: str, alternative: str = "") -> int:
        """Return a whole number of at least 1."""
        try:
            value = int(text)
        except ValueError:
            value = 0
        if value < 1:
            self.problems.add(
                f"{flag}: expected {alternative}a whole number of at least 1, got '{text}'"
            )
        return max(value, 1)

    def seconds(self, flag: str, text: str | None) -> float | None:
        """Return a positive number of seconds; None if it is not given, or wrong.

        Planning goes on after a wrong value, to report what else is wrong: it must not see one.
        """
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if 0 < value < math.inf:
            return value
        self.problems.add(f"{flag}: expected a number of seconds above 0, got '{text}'")
        return None

    def bound(self, flag: str, text: str | None, default: float) -> float:
        """Return a number of at least 0; the default if it is not given, or wrong."""
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if 0 <= value < math.inf:
            return value
        self.problems.add(f"{flag}: expected a number of at least 0, got '{text}'")
        return default
