"""Loads TensorFlow's library from its wheel, once for the process."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scoreline.models.runtimes.capi.errors import LibraryError, TensorFlowError, code_name
from scoreline.models.runtimes.capi.layout import check_layout
from scoreline.models.runtimes.capi.pages import forget_pages
from scoreline.models.runtimes.capi.prototypes import PROTOTYPES
from scoreline.models.runtimes.noise import TENSORFLOW_NOISE, without_noise

# In the order of loading: the second needs the first.
_FILES = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")

_UNKNOWN_OP = "Op type not registered"

_lock = threading.Lock()
_loaded: list[Library | LibraryError] = []


class Library:
    """TensorFlow's C API.

    Attributes:
      c: its functions, by name: `library.c.TF_NewGraph()`.
      version: TensorFlow's version.
      alignment_bytes: memory at a multiple of it is used without a copy.
    """

    def __init__(self, folder: str) -> None:
        """Load the library from the folder of the tensorflow package.

        Raises:
          LibraryError: a file or a function is missing, or strings have another layout.
        """
        path, handle = _open(folder)
        self.c: Any = SimpleNamespace(**_bind(path, handle))
        self.version: str = self.c.TF_Version().decode()
        check_layout(self.c)
        self.alignment_bytes: int = self.c.TF_TensorDefaultAlignment()

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call a function whose last argument is a status, which is added, and return its result.

        Raises:
          TensorFlowError: the status is not OK.
        """
        status = self.c.TF_NewStatus()
        try:
            result = function(*arguments, status)
            code = self.c.TF_GetCode(status)
            if code:
                message = self.c.TF_Message(status).decode(errors="replace")
                raise TensorFlowError(code_name(code), message)
            return result
        finally:
            self.c.TF_DeleteStatus(status)


def find_unknown_ops(library: Library, ops: Iterable[str]) -> list[str]:
    """Return the ops that TensorFlow, with the libraries loaded so far, does not have; sorted.

    A session would load a graph of them, and fail in its first call, with errors in the log.
    """
    c, unknown = library.c, []
    graph = c.TF_NewGraph()
    try:
        for number, op in enumerate(sorted(set(ops))):
            made = c.TF_NewOperation(graph, op.encode(), b"op_%d" % number)
            try:
                library.call(c.TF_FinishOperation, made)
            except TensorFlowError as e:  # also about the inputs, which are not given
                if _UNKNOWN_OP in e.message:
                    unknown.append(op)
    finally:
        c.TF_DeleteGraph(graph)
    return unknown


def load_library() -> Library:
    """Return the library of the installed TensorFlow; it is loaded once for the process.

    Raises:
      LibraryError: it is not installed, or not the one that this code was written for. The next
        calls raise the same error at once.
    """
    with _lock:
        if not _loaded:
            try:
                _loaded.append(Library(find_folder()))
            except LibraryError as e:
                _loaded.append(e)
        found = _loaded[0]
    if isinstance(found, LibraryError):
        raise LibraryError(str(found))
    return found


def find_folder() -> str:
    """Return the folder of the tensorflow package, which is not imported.

    The wheels `tensorflow` and `tensorflow_cpu` install the same package.

    Raises:
      LibraryError: there is none.
    """
    try:
        spec = importlib.util.find_spec("tensorflow")
    except ValueError:  # a module without a spec, made by hand
        spec = None
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / _FILES[-1]).exists():
            return folder
    where = list((spec and spec.submodule_search_locations) or ())
    raise LibraryError(
        f"Expected {_FILES[-1]} in the package tensorflow, found no such file in {', '.join(where)}"
        if where
        else "Expected the package tensorflow, which is not installed: pip install tensorflow"
    )


def _open(folder: str) -> tuple[str, int]:
    """Load the files, and return the path and handle of the last, which has the functions.

    RTLD_LOCAL, because code that is loaded later would bind to TensorFlow's symbols: parts of
    pyarrow then crash. RTLD_LAZY spares 0.1 to 0.2 CPU s for functions that are never called.
    `ctypes.CDLL` would always add RTLD_NOW. After each file, pages that only loading has read are
    unmapped: they would be half of the memory of a small job.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    libc = ctypes.CDLL(None)
    libc.dlopen.restype, libc.dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    libc.dlerror.restype, libc.dlerror.argtypes = ctypes.c_char_p, []
    path, handle = "", 0
    with without_noise(TENSORFLOW_NOISE):
        for name in _FILES:
            path = str(Path(folder) / name)
            found = libc.dlopen(os.fsencode(path), os.RTLD_LAZY | os.RTLD_LOCAL)
            if not found:
                reason = (libc.dlerror() or b"no reason given").decode(errors="replace")
                raise LibraryError(f"TensorFlow's library {path} does not load: {reason}")
            forget_pages(path)
            handle = found
    return path, handle


def _bind(path: str, handle: int) -> dict[str, Any]:
    """Return all functions; those that drop the GIL are of ctypes' CDLL, the others of PyDLL."""
    libraries = {True: ctypes.CDLL(path, handle=handle), False: ctypes.PyDLL(path, handle=handle)}
    functions, missing = {}, []
    for name, prototype in PROTOTYPES.items():
        try:
            function = getattr(libraries[prototype.drops_gil], name)
        except AttributeError:
            missing.append(name)
            continue
        function.restype, function.argtypes = prototype.result, list(prototype.arguments)
        functions[name] = function
    if missing:
        raise LibraryError(
            f"TensorFlow's library {path} has no function {', '.join(missing)}; expected those of "
            "the C API of TensorFlow 2"
        )
    return functions
