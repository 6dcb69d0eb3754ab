"""Clones of the project, archives built from them, and environments they are installed into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.fakes import ROOT

SHIPPED = ("lake", "models", "transforms", "pipelines", "scoreline")
_BUILD_FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


def clone(folder: Path) -> Path:
    """Copy what a clone has of the package, links as links, so that nothing is built in this one.

    A build leaves files beside setup.py, and a later wheel would take in those that are stale.
    """
    folder.mkdir(parents=True)
    for name in SHIPPED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name in _BUILD_FILES:
        shutil.copy(ROOT / name, folder)
    return folder


def call(command: list[object], **options: object) -> str:
    """Run a command that must succeed; return what it printed on stdout."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(project: Path, folder: Path) -> tuple[Path, Path]:
    """Build the sdist of a project, and the wheel from the sdist; return both."""
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, project])
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def make_environment(folder: Path, *, with_ours: bool) -> Path:
    """Make an environment with nothing in it, or with what this one has; return its Python."""
    call([sys.executable, "-m", "venv", "--without-pip", folder])
    python = folder / "bin" / "python"
    if with_ours:
        ours, site = sysconfig.get_path("purelib"), site_packages(python)
        (site / "ours.pth").write_text(f"{ours}\n")
    return python


def site_packages(python: Path) -> Path:
    """Return where an environment's packages are."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(call([python, "-c", code]).strip())


def install(python: Path, *what: object) -> None:
    """Install with pip, or with uv where the environment of the tests has no pip."""
    if _has_pip():
        call([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *what])
    else:
        call(["uv", "pip", "install", "--quiet", "--python", python, *what])


def _has_pip() -> bool:
    command = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def bare_environ(**more: str) -> dict[str, str]:
    """Return the variables of this process without those that lead Python elsewhere."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, **more}
