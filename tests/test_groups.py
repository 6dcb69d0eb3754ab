"""Several test processes share the tests by group."""

from __future__ import annotations

import re
import subprocess
import sys

TESTS = """
import pytest

@pytest.mark.parametrize("group", ["one", "two"])
def test_nothing(group):
    pass

@pytest.mark.xdist_group("same")
@pytest.mark.parametrize("number", range(6))
def test_of_a_group(number):
    pass
"""


def test_tests_of_a_group_run_in_one_process(tmp_path):
    """Without groups, every process would start every engine."""
    (tmp_path / "test_few.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-v", "-n2", "--dist=loadgroup", "--rootdir=."]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    processes = re.findall(r"\[(gw\d)\].* PASSED test_few.py::test_of_a_group", done.stdout)
    assert len(processes) == 6
    assert len(set(processes)) == 1
