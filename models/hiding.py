"""Keep modules out of a process that other libraries import only because they are installed.

Nothing here runs on `import scoreline`. A command, a worker or the process of a model calls it for
itself, because a module must not be hidden from the program of a user.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def hiding(*names: str) -> Iterator[None]:
    """Make modules look as if they were not installed, for all threads, while the block runs.

    Modules that are loaded already stay visible. An entry of None in `sys.modules` would not do:
    pyarrow and other compiled modules take the None for the module.
    """
    finder = _Filter(names, sys.meta_path)
    # New lists, because another thread may be going through the old one.
    sys.meta_path = [finder]
    try:
        yield
    finally:
        # Others may have added finders before or after it.
        place = sys.meta_path.index(finder)
        sys.meta_path = [*sys.meta_path[:place], *finder.others, *sys.meta_path[place + 1 :]]


class _Filter(MetaPathFinder):
    """Finds what other finders find, except some modules."""

    def __init__(self, names: Sequence[str], others: Sequence[Any]) -> None:
        self._names, self.others = frozenset(names), list(others)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self._names:
            return None
        found = (finder.find_spec(fullname, path, target) for finder in self.others)
        return next((spec for spec in found if spec is not None), None)

    def invalidate_caches(self) -> None:
        for finder in self.others:
            if hasattr(finder, "invalidate_caches"):
                finder.invalidate_caches()


def after_import(name: str, action: Callable[[], None]) -> None:
    """Call a function once, right after the first import of a module that is not loaded yet."""
    sys.meta_path.insert(0, _Watcher(name, action))


class _Watcher(MetaPathFinder):
    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self._name, self._action, self._is_inert = name, action, False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name or self._is_inert:
            return None
        self._is_inert = True
        try:
            spec = importlib.util.find_spec(fullname)  # asks the other finders
        finally:
            self._is_inert = False
        if spec is not None and spec.loader is not None:
            self._act_after(spec.loader)
        return spec

    def _act_after(self, loader: Loader) -> None:
        execute = loader.exec_module

        def execute_and_act(module: ModuleType) -> None:
            execute(module)
            self._is_inert = True
            self._action()

        loader.exec_module = execute_and_act  # type: ignore[method-assign]


@functools.cache  # once per process
def keep_pandas_out() -> None:
    """Prevent pyarrow from importing pandas until somebody else does.

    pyarrow imports pandas with its first array, to recognize a Series: 0.3 CPU s and 35 MB. Now it
    looks for pandas once, and does not find it. `to_pandas()` imports pandas all the same. A later
    `import pandas` works, and pyarrow then recognizes its types.
    """
    if "pandas" in sys.modules:
        return
    if "pyarrow" in sys.modules:
        _hide_pandas_from_pyarrow()
    else:
        after_import("pyarrow", _hide_pandas_from_pyarrow)


def _hide_pandas_from_pyarrow() -> None:
    import pyarrow as pa

    with hiding("pandas"):
        pa.array([])
    after_import("pandas", _show_pandas_to_pyarrow)


def _show_pandas_to_pyarrow() -> None:
    import pyarrow as pa

    pa.array([], pa.int8()).to_pandas()  # pyarrow looks for pandas again if it must have it
