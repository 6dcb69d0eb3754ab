"""Clones of the project, archives built from them, and environments they are installed into."""

from __future__ import annotations

import collections
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def build(project: Path, folder: Path) -> None:
    """Build the sdist of a project, and the wheel from the sdist, into a folder."""
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, project])


def make_environment(folder: Path, *, with_ours: bool) -> Path:
    """Make an environment with nothing in it, or with what this one has; return its Python."""
    call([sys.executable, "-m", "venv", "--without-pip", folder])
    python = folder / "bin" / "python"
    if with_ours:
        ours, site = sysconfig.get_path("purelib"), site_packages(python)
        (site / "ours.pth").write_text(f"{ours}\n")
    return python


def link_requirements(python: Path, wheel: Path) -> dict[str, str]:
    """Link what a wheel requires, and nothing else, from our environment into another.

    It takes a second, where pip takes two minutes of CPU time to unpack the same files. Return the
    version of each package.
    """
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    needed = _closure(metadata.get_all("Requires-Dist", []))
    # Distributions may share a folder, as those of Google do: link its files.
    shared = {top for top, owners in packages_distributions().items() if len(set(owners)) > 1}
    site = site_packages(python)
    for found in needed.values():
        for file in found.files or ():
            at = file if file.parts[0] in shared else Path(file.parts[0])
            target = site / at
            if file.parts[0] == ".." or target.is_symlink():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(found.locate_file(at))
    return {name: found.version for name, found in needed.items()}


def _closure(requirements: Iterable[str]) -> dict[str, Distribution]:
    """Return the distributions of our environment that these need, by name."""
    needed: dict[str, Distribution] = {}
    extras: dict[str, set[str]] = collections.defaultdict(set)
    left = [(Requirement(text), "") for text in requirements]
    while left:
        requirement, extra = left.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        new = {"", *requirement.extras} - extras[name]
        extras[name] |= new
        needed[name] = distribution(requirement.name)
        own = [Requirement(text) for text in needed[name].requires or ()]
        left += [(each, extra) for extra in new for each in own]
    return needed


def check_requirements(python: Path) -> None:
    """Check that an environment has all that its packages require, in versions that they allow."""
    if _has_pip():
        call([sys.executable, "-m", "pip", "--python", python, "check"])
    else:
        call(["uv", "pip", "check", "--python", python])


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
