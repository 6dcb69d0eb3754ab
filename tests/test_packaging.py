"""What is shipped to workers, and that versions agree wherever they stand."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from importlib import metadata

import pytest
from packaging.specifiers import SpecifierSet

from deploy.local.kafka_broker import KAFKA_VERSION
from scoreline import __version__
from scoreline.pipelines.runners.versions import (
    BEAM_JAVA_VERSION,
    BEAM_PYTHON_VERSION,
    FLINK_MINOR,
    FLINK_VERSION,
)
from tests.fakes import ROOT


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The archive that Beam builds from --setup_file ./setup.py, as it builds it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = folder.glob("*.tar.gz")
    return archive


def test_sdist_holds_one_package_and_nothing_of_tests(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    tops = {name.split("/")[0] for name in names}
    assert {"scoreline", "setup.py"} <= tops
    assert not {"tests", "benchmarks", "docs", "deploy", "build", "demo", "models"} & tops
    assert "scoreline/lake/table/scores.py" in names


@pytest.mark.slow
def test_sdist_installs_without_build_isolation_as_on_a_worker(sdist, tmp_path):
    target = tmp_path / "site"
    uv_or_pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*uv_or_pip, "--version"], capture_output=True, check=False).returncode:
        uv_or_pip = ["uv", "pip"]
    command = [
        *uv_or_pip,
        "install",
        "--no-build-isolation",
        "--no-deps",
        "--target",
        target,
        sdist,
    ]
    if uv_or_pip[0] == "uv":
        command += ["--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = "import scoreline.pipelines.score_batch as s; print(s.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(target))


def test_versions_agree_wherever_they_stand():
    constraints = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    beam = re.search(r"^BEAM_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert beam is not None
    assert beam[1] == constraints["apache-beam"] == metadata.version("apache-beam")
    assert beam[1] == BEAM_PYTHON_VERSION
    for package in ("tensorflow", "pyarrow", "deltalake", "tfx-bsl"):
        assert metadata.version(package) == constraints[package], "run `make install`"
    setup = (ROOT / "setup.py").read_text()
    assert f'version="{__version__}"' in setup
    assert __version__ in (ROOT / "CHANGELOG.md").read_text()


def test_every_pin_is_for_the_oldest_python_we_support():
    """Versions for older Pythons only: uv takes them; pip, which the image needs, refuses."""
    pins = re.findall(r"^(\S+)==", (ROOT / "constraints.txt").read_text(), re.M)
    wants = {pin: metadata.metadata(pin)["Requires-Python"] for pin in pins}
    assert len(wants) > 100
    wrong = {p: w for p, w in wants.items() if w and not SpecifierSet(w).contains("3.11.7")}
    assert not wrong


def test_versions_for_flink_agree_wherever_they_stand():
    makefile = (ROOT / "Makefile").read_text()
    assert f"\nBEAM_JAVA_VERSION := {BEAM_JAVA_VERSION}\n" in makefile
    assert f"\nFLINK_VERSION := {FLINK_VERSION}\n" in makefile
    local = ROOT / "deploy" / "local"
    assert (
        f"apache-flink-libraries=={FLINK_VERSION} " in (local / "flink-libraries.txt").read_text()
    )
    pom = (local / "job_server" / "pom.xml").read_text()
    assert f"<beam.version>{BEAM_JAVA_VERSION}</beam.version>" in pom
    assert f"<flink.minor>{FLINK_MINOR}</flink.minor>" in pom


def test_version_of_kafka_agrees_wherever_it_stands():
    pom = (ROOT / "deploy" / "local" / "kafka_broker" / "pom.xml").read_text()
    assert f"<artifactId>kafka_2.13</artifactId>\n      <version>{KAFKA_VERSION}</version>" in pom


def test_pyproject_has_no_project_table():
    assert not re.search(r"^\[project\]", (ROOT / "pyproject.toml").read_text(), re.M)
