"""Every example of docs/api.md runs, in order, as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import scoreline
from tests.fakes import ROOT

PAGE = ROOT / "docs" / "api.md"


def test_every_example_of_the_page_runs_in_the_folder_that_it_speaks_of(model, lake, tmp_path):
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert len(examples) >= 6
    shutil.copytree(model, tmp_path / "model")
    shutil.copytree(lake, tmp_path / "lake")
    (tmp_path / "examples.py").write_text("\n".join(examples))
    done = subprocess.run(
        [sys.executable, "examples.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_page_names_every_public_name():
    page = PAGE.read_text()
    assert [n for n in scoreline.__all__ if n != "__version__" and f"`{n}`" not in page] == []
