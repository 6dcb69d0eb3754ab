"""Every option on a page belongs to the command that it is used with."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from scoreline.__main__ import COMMANDS, main
from tests.docs.pages import join_lines, read_pages

PAGES = [page for page in read_pages() if page.path != "CHANGELOG.md"]
TABLE = ("status", "verify", "history", "rollback", "vacuum")
_COMMAND = re.compile(rf"(?:scoreline|launcher) ({'|'.join(COMMANDS)}) ?(\w*)(.*)")
_FLAG = re.compile(r"(?<![\w-])--([a-z]\w*)")
# Options of Beam and its Flink runner, which `batch` and `stream` pass on.
OF_BEAM = {
    "runner",
    "experiments",
    "job_endpoint",
    "job_name",
    "setup_file",
    "streaming",
    "sdk_container_image",
    "sdk_location",
    "environment_type",
    "environment_config",
    "environment_cache_millis",
    "direct_running_mode",
    "prism_location",
    "parallelism",
    "max_parallelism",
    "max_bundle_size",
    "max_bundle_time_mills",
    "object_reuse",
    "checkpointing_interval",
    "finish_bundle_before_checkpointing",
    "execution_mode_for_batch",
    "execution_retry_delay",
    "number_of_execution_retries",
    "savepoint_path",
    "state_backend",
    "flink_master",
    "flink_version",
    "flink_submit_uber_jar",
    "flink_job_server_jar",
}
# Options of other programs that pages name alone: Beam's boot and pool, systemd, our tools.
OF_OTHERS = {"worker_pool", "container_executable", "model_sharing", "submit_timeout_s"}
# Wrong options that pages show on purpose.
WRONG = {"nonsense", "checkpointing_intervall"}


def flags_of(*argv):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*argv, "--help"])
    return set(_FLAG.findall(shown.getvalue()))


@pytest.fixture(scope="module")
def known():
    """The flags in the help of each command; for `table`, of each subcommand."""
    flags = {(name, ""): flags_of(name) for name in COMMANDS if name != "table"}
    flags |= {("table", name): flags_of("table", name) for name in TABLE}
    assert all(len(found) > 2 for found in flags.values())
    return flags


def commands_in(page):
    for line in join_lines(page.text):
        for command, word, rest in _COMMAND.findall(line.partition("  # ")[0].partition("`. ")[0]):
            sub = word if command == "table" else ""
            if command != "table" or sub in TABLE:
                yield (command, sub), set(_FLAG.findall(f"{word}{rest}".partition("`")[0]))


def test_every_option_of_a_command_that_is_shown_exists(known):
    seen, wrong = 0, []
    for page in PAGES:
        for command, flags in commands_in(page):
            seen += 1
            own = known[command] | (OF_BEAM if command[0] in ("batch", "stream") else set())
            wrong += [f"{page.path}: {' '.join(command)} --{flag}" for flag in flags - own - WRONG]
    assert seen > 20
    assert not wrong


def test_every_option_that_is_named_by_itself_exists(known):
    every = set().union(*known.values()) | OF_BEAM | OF_OTHERS | WRONG
    named = {
        (page.path, flag)
        for page in PAGES
        for code in page.code()
        if code.startswith("--") and " --" not in code.partition("=")[0]
        for flag in _FLAG.findall(code)
    }
    assert len(named) > 100
    assert not {found for found in named if found[1] not in every}
