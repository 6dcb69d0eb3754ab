import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scoreline.models.runtimes.capi import layout, library
from scoreline.models.runtimes.capi.config import run_options, session_config
from scoreline.models.runtimes.capi.errors import LibraryError, TensorFlowError
from scoreline.models.runtimes.capi.library import Library, find_folder, load_library
from scoreline.models.runtimes.capi.prototypes import PROTOTYPES, Output, Prototype
from scoreline.models.runtimes.tensorflow import import_tensorflow


@pytest.fixture
def no_library(monkeypatch):
    """Forget the library of this process for a test."""
    monkeypatch.setattr(library, "_loaded", [])


def test_library_is_loaded_once_without_pythons_tensorflow():
    program = (
        "import sys\n"
        "from scoreline.models.runtimes.capi.library import load_library\n"
        "loaded = load_library()\n"
        "assert loaded is load_library()\n"
        "assert 'tensorflow' not in sys.modules\n"
        "print(loaded.version, loaded.alignment_bytes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    version = import_tensorflow().__version__
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{version} 64\n"


def test_status_becomes_an_error_with_code_and_message():
    loaded = load_library()
    with pytest.raises(TensorFlowError, match=r"nowhere") as e:
        loaded.call(loaded.c.TF_LoadLibrary, b"/nowhere/at/all.so")
    assert e.value.code == "NOT_FOUND"


def test_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LibraryError, match="tensorflow, which is not installed"):
        find_folder()


def test_package_without_the_library_is_told(tmp_path, monkeypatch):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow/__init__.py").touch()
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(LibraryError, match=r"libtensorflow_cc\.so\.2.*found no such file in"):
        find_folder()


def test_other_files_are_refused_with_their_path_and_reason(tmp_path):
    with pytest.raises(LibraryError, match=rf"{tmp_path}.*No such file"):
        Library(str(tmp_path))
    for name in library._FILES:
        (tmp_path / name).write_bytes(b"no library")
    with pytest.raises(LibraryError, match=rf"{tmp_path}.*does not load"):
        Library(str(tmp_path))


def test_missing_functions_are_all_named(monkeypatch):
    for name in ("TF_NotThere", "TF_NeitherThis"):
        monkeypatch.setitem(PROTOTYPES, name, Prototype(None, []))
    with pytest.raises(LibraryError, match="TF_NotThere, TF_NeitherThis"):
        Library(find_folder())


@pytest.mark.parametrize(
    ("constant", "value"),
    [("SMALL", 1), ("LARGE", 3), ("OFFSET", 0), ("VIEW", 1), ("MAX_SMALL_BYTES", 30)],
)
def test_another_layout_of_strings_is_refused(monkeypatch, constant, value):
    monkeypatch.setattr(layout, constant, value)
    with pytest.raises(LibraryError, match="string"):
        Library(find_folder())


def test_failure_is_kept_for_the_next_call(no_library, monkeypatch):
    calls = []

    def fail():
        calls.append(1)
        raise LibraryError("not here")

    monkeypatch.setattr(library, "find_folder", fail)
    for _ in range(2):
        with pytest.raises(LibraryError, match="not here"):
            load_library()
    assert calls == [1]


def test_options_are_those_of_tensorflows_own_classes():
    import_tensorflow()
    from tensorflow.core.protobuf.config_pb2 import ConfigProto, RunOptions

    want = ConfigProto(device_count={"GPU": 0})
    want.graph_options.rewrite_options.constant_folding = 2  # OFF
    assert ConfigProto.FromString(session_config()) == want
    got = ConfigProto.FromString(session_config(has_gpu=True))
    assert got == ConfigProto(graph_options=want.graph_options)
    want.intra_op_parallelism_threads, want.inter_op_parallelism_threads = 1, 300
    got = ConfigProto.FromString(session_config(threads_in_call=1, concurrent_calls=300))
    assert got == want
    for timeout_ms in (1, 127, 128, 86_400_000):
        assert RunOptions.FromString(run_options(timeout_ms)) == RunOptions(
            timeout_in_ms=timeout_ms
        )


def test_prototypes_are_those_of_the_headers():
    """Results and arguments of every function; a wrong one could crash the process."""
    text = read_headers()
    for name, prototype in PROTOTYPES.items():
        declared = re.search(rf"([\w *]+?)\b{name} ?\(((?:[^()]|\([^()]*\))*)\) ?;", text)
        assert declared, name
        arguments = re.sub(r"\(\*\w+\)\([^()]*\)", "(*)", declared[2])  # a function, given
        found = [
            kind_of_c(text) for text in arguments.split(",") if text.strip() not in ("", "void")
        ]
        assert found == [kind_of_ctypes(argument) for argument in prototype.arguments], name
        assert kind_of_c(declared[1]) == kind_of_ctypes(prototype.result), name


def read_headers():
    folder = Path(find_folder()) / "include/tensorflow"
    names = ("c_api", "tf_tensor", "tf_tstring", "tf_buffer", "tf_status", "tf_datatype")
    lines = [
        re.sub(r"//.*|#.*|TF_CAPI_EXPORT|extern|\"C\" \{", "", line)
        for name in names
        for line in (folder / f"c/{name}.h").read_text().splitlines()
    ]
    return re.sub(r"\s+", " ", " ".join(lines))


def kind_of_c(declared):
    declared = declared.strip()
    if "*" in declared:
        return "pointer"
    word = declared.removeprefix("const ").split()[0]
    enums = ("TF_Code", "TF_DataType", "TF_TString_Type")  # C stores an enum as an int
    return "int" if word in enums else word


def kind_of_ctypes(kind):
    simple = {
        None: "void",
        Output: "TF_Output",
        ctypes.c_int: "int",
        ctypes.c_int64: "int64_t",
        ctypes.c_size_t: "size_t",
        ctypes.c_bool: "bool",
    }
    return simple.get(kind, "pointer")
