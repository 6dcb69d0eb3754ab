"""Fixtures of real engines."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.fakes import ROOT


@pytest.fixture(scope="session")
def prism():
    version = re.search(r"^BEAM_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    binary = cache / "scoreline" / f"prism-{version}" / "prism"
    if not binary.exists():
        if os.environ.get("CI"):
            pytest.fail(f"Prism is not built at {binary}: `make prism` needs Go")
        pytest.skip(f"Prism is not built at {binary}: run `make prism`, which needs Go")
    return binary
