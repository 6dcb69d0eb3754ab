"""Files and folders that other processes move and remove concurrently."""

from __future__ import annotations

import errno
import http.server
import threading

import pytest
from deltalake.exceptions import DeltaError
from pyarrow import fs

from scoreline.lake.storage import (
    list_folder,
    may_pass,
    move_file,
    panics_as_errors,
    remove_folder,
    resolve,
    write_whole,
)

LOCAL = fs.LocalFileSystem()


def test_a_file_is_written_though_its_folder_is_removed_all_the_while(tmp_path):
    folder = str(tmp_path / "receipts" / "run")
    done = threading.Event()

    def remove():
        while not done.is_set():
            remove_folder(LOCAL, folder)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for number in range(300):
            write_whole(LOCAL, f"{folder}/{number}.json", b"whole")
    finally:
        done.set()
        remover.join()
    write_whole(LOCAL, f"{folder}/last.json", b"whole")
    assert (tmp_path / "receipts" / "run" / "last.json").read_bytes() == b"whole"


def test_many_may_remove_the_same_folder(tmp_path):
    folder = tmp_path / "run"
    for _ in range(20):
        for number in range(20):
            write_whole(LOCAL, f"{folder}/{number}.json", b"")
        threads = [
            threading.Thread(target=remove_folder, args=(LOCAL, str(folder))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        remove_folder(LOCAL, str(folder))
        assert not folder.exists()


def test_a_missing_folder_is_empty_and_may_be_removed(tmp_path):
    assert list_folder(LOCAL, str(tmp_path / "none")) == []
    remove_folder(LOCAL, str(tmp_path / "none"))


def test_a_file_is_moved_once_and_later_movers_learn_it(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    target = tmp_path / "deep" / "folder" / "b"
    assert move_file(LOCAL, str(tmp_path / "a"), str(target))
    assert not move_file(LOCAL, str(tmp_path / "a"), str(target))
    assert target.read_bytes() == b"x"


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match="Expected a local path or a URI such as gs://"):
        resolve("nowhere://bucket/path")


@pytest.fixture
def answering():
    """Return a function that starts a store that always returns a status, and returns its URI."""
    servers = []

    def start(status, scheme):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815  http.server wants these names

            def log_message(self, *args):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever).start()
        where = f"endpoint_override=127.0.0.1:{servers[-1].server_port}&scheme=http"
        if scheme == "gs":
            return f"gs://anonymous@lake/rows?{where}&retry_limit_seconds=1"
        return f"s3://user:word@lake/rows?{where}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("scheme", ["gs", "s3"])
@pytest.mark.parametrize(
    ("status", "expected"), [(401, False), (403, False), (404, False), (429, True), (503, True)]
)
def test_refusals_of_a_store_are_permanent_and_outages_may_pass(
    answering, scheme, status, expected
):
    file_system, path = resolve(answering(status, scheme))
    with pytest.raises(OSError) as refused:
        file_system.open_input_file(path)
    assert may_pass(refused.value) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (TimeoutError(), True),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (OSError(errno.ENAMETOOLONG, "File name too long"), False),
        (ValueError("Expected a local path or a URI"), False),
    ],
    ids=repr,
)
def test_which_errors_may_pass(error, expected):
    assert may_pass(error) == expected


def test_a_panic_of_deltalake_becomes_its_error():
    """Regression: a damaged checkpoint of an input table ended the command in a traceback."""
    panic = type("PanicException", (BaseException,), {})
    with (
        pytest.raises(DeltaError, match="deltalake has crashed: RecvError"),
        panics_as_errors(),
    ):
        raise panic("RecvError")
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt
