"""The package where others have it: in their environment, beside their own folders and clones."""

from __future__ import annotations

import json
import sys

import pytest

from scoreline import __version__
from tests.fakes import ROOT
from tests.json_output import read_object
from tests.packages import (
    bare_environ,
    call,
    check_requirements,
    clone,
    install,
    link_requirements,
    make_environment,
    site_packages,
)

ROOMS = ("lake", "models", "transforms", "pipelines")
# Every module of ours that a command loads, and the folder that the package is in.
PRINT_ORIGINS = """
import json, pathlib, sys
import scoreline.__main__ as command
import scoreline.pipelines.table_actions, scoreline.models.artifact, scoreline.lake.files.formats
def root(name):
    parts = len(name.split('.')) - (not hasattr(sys.modules[name], '__path__'))
    return str(pathlib.Path(sys.modules[name].__file__).parents[parts - 1].parent)
names = [name for name in sys.modules if name.split('.')[0] == 'scoreline']
print(json.dumps({'version': command.__version__, 'modules': len(names),
                  'roots': sorted({root(name) for name in names})}))
"""


@pytest.fixture(scope="module")
def wheel(archives):
    return archives[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel):
    """The Python of an environment that has the wheel, and else what ours has."""
    python = make_environment(tmp_path_factory.mktemp("installed") / "venv", with_ours=True)
    install(python, "--no-deps", wheel)
    assert (site_packages(python) / "scoreline").is_dir()
    return python


def make_own_packages(folder):
    """A project of somebody else, with packages of the names of our rooms; none may be imported."""
    folder.mkdir()
    for room in ROOMS:
        (folder / room).mkdir()
        (folder / room / "__init__.py").write_text("raise AssertionError('not yours to import')\n")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_scores_beside_a_users_own_packages_of_the_same_names(
    installed, model, lake, tmp_path
):
    """In the current folder and on PYTHONPATH, also in the worker processes of Beam's runner."""
    here, elsewhere = make_own_packages(tmp_path / "here"), make_own_packages(tmp_path / "there")
    out = call(
        [
            *[installed.parent / "scoreline", "batch", "--json", "--keys=id"],
            *["--input", lake, "--model", model, "--output", tmp_path / "scores"],
            *["--direct_running_mode=multi_processing", "--workers=2"],
        ],
        cwd=here,
        env=bare_environ(PYTHONPATH=str(elsewhere)),
    )
    assert read_object("batch", out, 0)["rows_scored"] == 900


def origins(python, cwd):
    return json.loads(call([python, "-c", PRINT_ORIGINS], cwd=cwd, env=bare_environ()))


def test_two_clones_side_by_side_do_not_mix(tmp_path):
    """Neither do they when one of them is installed to be edited."""
    first, second = clone(tmp_path / "first"), clone(tmp_path / "second")
    code = (second / "scoreline" / "__init__.py").read_text()
    assert f'"{__version__}"' in code
    (second / "scoreline" / "__init__.py").write_text(code.replace(__version__, "99.0"))
    python = make_environment(tmp_path / "venv", with_ours=True)
    install(python, "--no-deps", "--no-build-isolation", "--editable", first)
    for here, version, root in (
        (first, __version__, first),
        (second, "99.0", second),
        (tmp_path, __version__, first),  # the editable one
    ):
        found = origins(python, here)
        assert found["version"] == version
        assert found["roots"] == [str(root)]
        assert found["modules"] > 20
        shown = call([python, "-m", "scoreline", "--version"], cwd=here, env=bare_environ())
        assert shown == f"scoreline {version}\n"
    script = call([python.parent / "scoreline", "--version"], cwd=second, env=bare_environ())
    assert script == f"scoreline {__version__}\n"


def test_an_editable_install_sees_an_edit(tmp_path):
    edited = clone(tmp_path / "clone")
    python = make_environment(tmp_path / "venv", with_ours=True)
    install(python, "--no-deps", "--no-build-isolation", "--editable", edited)
    (edited / "lake" / "added.py").write_text("VALUE = 7\n")
    code = "import scoreline.lake.added as a; print(a.VALUE, a.__file__)"
    value, path = call([python, "-c", code], cwd=tmp_path, env=bare_environ()).split()
    assert (value, path) == ("7", str(edited / "scoreline" / "lake" / "added.py"))


def test_the_installed_wheel_has_all_of_its_modules_and_its_types(installed, tmp_path):
    found = origins(installed, tmp_path)
    assert found["roots"] == [str(site_packages(installed))]
    package = site_packages(installed) / "scoreline"
    assert (package / "py.typed").exists()
    assert not any(path.is_symlink() for path in package.rglob("*"))
    assert call([installed, "-m", "scoreline", "--version"], cwd=tmp_path) == (
        f"scoreline {__version__}\n"
    )


def test_the_archive_that_beam_makes_of_setup_py_installs_as_on_a_worker(tmp_path):
    """As `--setup_file ./setup.py` does, by Beam's own code."""
    project = clone(tmp_path / "clone")
    code = (
        "import sys; from apache_beam.runners.portability.stager import Stager; "
        "print(Stager._build_setup_package(sys.argv[1], sys.argv[2]))"
    )
    (tmp_path / "staged").mkdir()
    command = [sys.executable, "-c", code, project / "setup.py", tmp_path / "staged"]
    sdist = call(command).splitlines()[-1]
    python = make_environment(tmp_path / "venv", with_ours=True)
    install(python, "--no-deps", "--no-build-isolation", sdist)
    assert origins(python, tmp_path)["roots"] == [str(site_packages(python))]


def test_setup_py_builds_an_archive_where_build_is_not_installed(tmp_path):
    """Beam falls back to this."""
    project = clone(tmp_path / "clone")
    folder = tmp_path / "dist"
    call([sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", folder], cwd=project)
    (sdist,) = folder.iterdir()
    python = make_environment(tmp_path / "venv", with_ours=True)
    install(python, "--no-deps", "--no-build-isolation", sdist)
    assert origins(python, tmp_path)["roots"] == [str(site_packages(python))]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_and_its_constraints_score_csv_files_in_an_empty_environment(
    wheel, model, tmp_path
):
    """As a stranger installs it: it has what the wheel requires, and nothing else."""
    python = make_environment(tmp_path / "venv", with_ours=False)
    constraints = set((ROOT / "constraints.txt").read_text().splitlines())
    linked = link_requirements(python, wheel)
    assert {f"{name}=={version}" for name, version in linked.items()} <= constraints
    assert "pytest" not in linked
    install(python, "--no-deps", wheel)
    check_requirements(python)
    for day in (1, 2):
        folder = tmp_path / "lake" / f"date=2024-01-0{day}"
        folder.mkdir(parents=True)
        (folder / "rows.csv").write_text(f"id,x,n,s\n{day}1,0.5,2,a\n{day}2,1.5,3,b\n")
    schema = tmp_path / "schema.json"
    schema.write_text('{"id": "int64", "x": "float32", "n": "int64", "s": "string"}')
    command = [python.parent / "scoreline", "batch", "--input=lake", "--output=scores"]
    command += [f"--model={model}", f"--schema={schema}", "--keys=id"]
    environ = bare_environ(PATH=f"{python.parent}:/usr/bin:/bin")
    assert "2 committed" in call(command, cwd=tmp_path, env=environ)
    code = (
        "import scoreline; rows = scoreline.open_scores('scores').to_table().sort_by('id'); "
        "print(rows.column('score').to_pylist())"
    )
    assert call([python, "-c", code], cwd=tmp_path, env=environ) == "[8.0, 14.0, 8.0, 14.0]\n"
