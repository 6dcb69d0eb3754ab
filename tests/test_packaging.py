"""The archive for workers, and equal versions in all files."""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
from importlib import metadata

from packaging.metadata import Metadata
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

ROOMS = ("lake", "models", "transforms", "pipelines")


def modules_of(root):
    """Return the modules of the rooms and of the package, as paths in the package."""
    rooms = {f"scoreline/{path}" for room in ROOMS for path in python_files(root, room)}
    return rooms | {f"scoreline/{path.name}" for path in (root / "scoreline").glob("*.py")}


def python_files(root, room):
    return (path.relative_to(root) for path in (root / room).rglob("*.py"))


# Files that are no modules, which a worker needs all the same.
DATA = {
    "scoreline/py.typed",
    "scoreline/pipelines/load_test/report/report.html.j2",
    "scoreline/pipelines/load_test/report/style.css",
}


def test_the_sdist_holds_one_package_and_nothing_of_tests(archives):
    with tarfile.open(archives[0]) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members} - {""}
    tops = {name.split("/")[0] for name in names}
    assert {"scoreline", "setup.py", "README.md", "LICENSE"} <= tops
    assert not {"tests", "benchmarks", "docs", "deploy", "build", "demo", "models"} & tops
    assert modules_of(ROOT) | DATA <= names
    assert not [member.name for member in members if member.issym() or member.islnk()]


def test_the_wheel_holds_one_package_whole_and_no_link(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        members = wheel.infolist()
        (top_level,) = (m for m in members if m.filename.endswith("/top_level.txt"))
        assert wheel.read(top_level).decode().split() == ["scoreline"]
    names = {member.filename for member in members}
    metadata_folder = f"scoreline-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"scoreline", metadata_folder}
    modules = {name for name in names if name.endswith(".py")}
    assert modules == modules_of(ROOT)
    assert names >= DATA
    assert not [m.filename for m in members if stat.S_ISLNK(m.external_attr >> 16)]


def test_the_wheel_could_be_published(archives):
    """What `twine check` and an index ask of it."""
    with zipfile.ZipFile(archives[1]) as wheel:
        (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        text = wheel.read(path)
        (path,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
        assert "scoreline=scoreline.__main__:run" in wheel.read(path).decode().replace(" ", "")
    told = Metadata.from_email(text, validate=True)
    assert (told.name, str(told.version)) == ("scoreline", __version__)
    assert told.license_expression == "Apache-2.0"
    assert told.license_files == ["LICENSE"]
    assert told.description_content_type == "text/markdown"
    assert told.description.startswith("# Scoreline")
    assert "Typing :: Typed" in told.classifiers
    assert {"kafka", "litert", "demo", "dev"} <= set(told.provides_extra)
    assert "3.11.7" in told.requires_python
    # An index refuses what names a place instead of a version.
    assert not [need for need in told.requires_dist if need.url]


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
    """uv accepts versions for older Pythons only; pip, which the image uses, rejects them."""
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


def test_there_is_one_command_and_no_module_is_run_in_its_place():
    names = [entry.name for entry in metadata.entry_points(group="console_scripts")]
    assert not {"score-batch", "score-stream", "inspect-model", "scores-table"} & set(names)
    runnable = [
        path for path in (ROOT / "pipelines").glob("*.py") if "__main__" in path.read_text()
    ]
    assert runnable == []
