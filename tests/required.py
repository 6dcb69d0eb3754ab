"""What the tests need besides Python packages."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

NOT_TESTED = "NOT TESTED HERE"


def fail_or_skip(what: str) -> NoReturn:
    """Fail where the environment has CI set, else skip; the summary repeats what was not tested."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} (with CI set, nothing may be left out)")
    pytest.skip(f"{NOT_TESTED}: {what}")
