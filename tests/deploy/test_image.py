"""The worker image cannot be built here; these tests compare its file with the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scoreline import __version__
from tests.fakes import ROOT

IMAGE = ROOT / "deploy" / "image"


@pytest.fixture(scope="module")
def dockerfile():
    return (IMAGE / "Dockerfile").read_text()


def pins():
    text = (ROOT / "constraints.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))


def makefile_variable(name):
    found = re.search(rf"^{name}\s*:?\??=\s*(\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert found, f"no {name} in the Makefile"
    return found[1]


def test_beam_is_of_the_pinned_version_and_python_of_the_makefiles(dockerfile):
    python, beam = makefile_variable("PYTHON"), makefile_variable("BEAM_VERSION")
    assert beam == pins()["apache-beam"]
    assert f"\nARG BEAM_IMAGE=apache/beam_{python}_sdk:{beam}\n" in dockerfile
    minor = python.removeprefix("python")
    assert re.search(rf"^ARG PYTHON_IMAGE=python:{re.escape(minor)}\.\d+-slim-", dockerfile, re.M)


def test_every_base_is_pinned_by_an_exact_version(dockerfile):
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", dockerfile, re.M))
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.M)
    assert len(bases) == 3
    for base in bases:
        image = arguments[base.strip("${}")]
        assert re.search(r":\d+\.\d+\.\d+|@sha256:[0-9a-f]{64}$", image), image


def test_image_runs_without_root_and_ends_in_beams_boot_program(dockerfile):
    last = dockerfile.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.M)
    assert last.rstrip().endswith('ENTRYPOINT ["/opt/apache/beam/boot"]')
    assert "apt-get" not in dockerfile, "no compiler, no package that is not pinned"


def test_builder_gets_all_that_the_wheel_is_made_of_and_no_more(dockerfile):
    lines = (IMAGE / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        name
        for line in re.findall(r"^COPY ((?!--from).+) \S+$", dockerfile, re.M)
        for name in line.split()
    }
    assert "*" in lines
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


@pytest.fixture
def boot_python(tmp_path):
    """The image's `python` for Beam's boot program, beside this environment."""
    (tmp_path / "boot").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (tmp_path / name).symlink_to(Path(sys.prefix, name))
    return shutil.copy(IMAGE / "python", tmp_path / "boot" / "python")


def run_as_boot_does(python, *arguments):
    command = [python, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_boot_program_starts_our_worker(boot_python, dockerfile):
    """Without the environment that boot sets, a worker ends; its traceback shows its module."""
    for module, is_ours in [("sdk_worker_main", True), ("worker_pool_main", False)]:
        name = f"apache_beam.runners.worker.{module}"
        ended = run_as_boot_does(boot_python, "-m", name, "--service_port=nonsense")
        assert ended.returncode != 0
        assert ("transforms/worker/main.py" in ended.stderr) is is_ours
        assert f"{module}.py" in ended.stderr
    assert "\nENV PATH=/opt/scoreline/boot:/opt/scoreline/bin:$PATH" in dockerfile


def test_everything_else_of_the_boot_program_runs_unchanged(boot_python):
    code = "import sys; print(sys.argv[1:], sys.executable)"
    ended = run_as_boot_does(boot_python, "-c", code, "a b", "", "*")
    assert ended.stdout == f"['a b', '', '*'] {Path(boot_python).parents[1]}/bin/python\n"


def test_readmes_name_the_version_that_the_package_has(dockerfile):
    for text in (dockerfile, *(p.read_text() for p in (ROOT / "deploy").rglob("*.md"))):
        assert set(re.findall(r"scoreline:(\d[\w.]*\d)", text)) <= {__version__}


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "run `make install`"
    done = subprocess.run(
        [hadolint, IMAGE / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
