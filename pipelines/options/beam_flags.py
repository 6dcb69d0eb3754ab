"""The names of Beam's flags, read from its source, because importing Beam takes 1 CPU s."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

_FLAG = re.compile(r"""['"](--[A-Za-z][\w-]*)['"]""")


@functools.cache
def beam_flags() -> frozenset[str]:
    """Return the flags that Beam's options declare; none if its source cannot be read.

    The result may have more flags than Beam declares, never fewer. The runner decides in the end.
    """
    package = importlib.util.find_spec("apache_beam")  # does not import it
    if package is None or not package.submodule_search_locations:
        return frozenset()
    source = Path(package.submodule_search_locations[0], "options", "pipeline_options.py")
    return frozenset(_FLAG.findall(source.read_text("utf-8"))) if source.exists() else frozenset()
