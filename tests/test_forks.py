"""A forked process ends, prints and dies as one that was started by itself."""

from __future__ import annotations

import os
import signal

from tests.forks import fork

LIBRARIES = ("json",)


def start(*args):
    return fork(*args, environment=os.environ, libraries=LIBRARIES)


def test_output_and_exit_code_are_those_of_the_module(tmp_path):
    (tmp_path / "value.json").write_text("[1]")
    good, bad = start("json.tool", "--compact", tmp_path / "value.json"), start("json.tool", "none")
    assert good.communicate(60) == ("[1]\n", "")
    out, err = bad.communicate(60)
    assert (good.returncode, bad.returncode, out) == (0, 2, "")
    assert "No such file or directory: 'none'" in err


def test_a_signal_ends_the_process_and_is_its_exit_code():
    serves = start("http.server", "--bind=127.0.0.1", "0")
    assert serves.poll() is None
    serves.kill()
    serves.communicate(60)
    assert serves.returncode == -signal.SIGKILL


def test_the_environment_is_the_given_one():
    site = fork("site", "--user-base", environment={"PYTHONUSERBASE": "mine"}, libraries=LIBRARIES)
    assert site.communicate(60)[0] == "mine\n"
