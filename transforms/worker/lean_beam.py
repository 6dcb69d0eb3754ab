"""Import Beam without the libraries that it imports only because they are installed.

tfx-bsl requires Beam with its extra for Google Cloud. With the extra, `import apache_beam` (2.77)
imports the clients of Cloud Storage, BigQuery, Pub/Sub and Dataflow, and also the one of MongoDB
and pandas: 0.9 of 1.4 CPU s, and 85 MB. A third of what is left is beartype, httplib2, cryptography
and yaml. A scoring job needs none of them. A worker pays for them again.

What is left out here, and what brings it back:

| module                   | reason                          | until                               |
|--------------------------|---------------------------------|-------------------------------------|
| `apache_beam.io.gcp`     | storage, BigQuery, Pub/Sub      | a gs:// path, a name of `beam.io`,  |
|                          |                                 | an import of it                     |
| `apitools`               | errors of Google's clients, for | `apache_beam.io.gcp`                |
|                          | `apache_beam.utils.retry`       |                                     |
| `google.cloud.dataflow`  | states of Dataflow's jobs       | `apache_beam.io.gcp`, which         |
|                          |                                 | DataflowRunner imports              |
| `apache_beam.io.mongodbio` | MongoDB                       | a name of `beam.io`, an import      |
| `pandas`                 | type hints of data frames       | an import of it                     |
| `beartype`               | types that Beam cannot compare  | such a comparison, an import of it  |
| `httplib2`               | downloads of the stager         | such a download, an import of it    |
| `cryptography`           | encrypted keys of GroupByKey    | such a step, an import of it        |
| `yaml`                   | steps of other languages        | such a step, an import of it        |

Only processes of our own may call `import_beam`: the commands, and the workers that we start.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from scoreline.models.hiding import after_import, hiding, keep_pandas_out

_HIDDEN = ("apache_beam.io.gcp", "apitools", "google.cloud.dataflow", "pandas")
_MONGO = "apache_beam.io.mongodbio"
_HTTP = "apache_beam.internal.http_client"
# What Beam's `io` exports from the modules that are left out, in its order.
_OF_IO = (
    _MONGO,
    "apache_beam.io.gcp.bigquery",
    "apache_beam.io.gcp.pubsub",
    "apache_beam.transforms.xlang.io",
)


def import_beam() -> None:
    """Import Beam without what a scoring job does not use, unless it is imported already."""
    if "apache_beam" in sys.modules:
        return
    keep_pandas_out()
    with _stand_ins(), hiding(*_HIDDEN):
        importlib.import_module("apache_beam")
    vars(sys.modules["apache_beam.io"])["__getattr__"] = _find_in_io
    after_import("apache_beam.io.gcp", _show_google_to_beam)
    after_import("pandas", _show_pandas_to_beam)
    _find_buckets()


class _CannotCompare(Exception):
    """Stands for beartype's exception, which Beam catches."""


def _is_subhint(sub: Any, base: Any) -> bool:
    """Compare types by beartype."""
    from beartype import door, roar

    try:
        return door.is_subhint(sub, base)
    except roar.BeartypeDoorException as e:
        raise _CannotCompare(str(e)) from e


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports a function, or a class, when it is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    return call


# What Beam finds in modules while it is imported, instead of the modules.
_STAND_INS: Mapping[str, Mapping[str, Any]] = {
    _MONGO: {"__all__": []},
    "beartype.door": {"is_subhint": _is_subhint},
    "beartype.roar": {"BeartypeDoorException": _CannotCompare},
    _HTTP: {"get_new_http": _later(_HTTP, "get_new_http")},
    "cryptography.fernet": {"Fernet": _later("cryptography.fernet", "Fernet")},
    "yaml": {"dump": _later("yaml", "dump")},
}


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Replace modules that are not loaded yet while the block runs."""
    names = [name for name in _STAND_INS if name not in sys.modules]
    for name in names:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(_STAND_INS[name])
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _find_in_io(name: str) -> Any:
    """Import what Beam's `io` would have imported, when a name of it is first used (PEP 562)."""
    io = sys.modules["apache_beam.io"]
    if not name.startswith("_"):
        del vars(io)["__getattr__"]
        with contextlib.suppress(ImportError):  # as Beam does, if the extra is not installed
            for module in _OF_IO:
                _export(importlib.import_module(module), io)
        if name in vars(io):
            return vars(io)[name]
    raise AttributeError(f"module 'apache_beam.io' has no attribute '{name}'")


def _export(module: ModuleType, target: ModuleType) -> None:
    """Do what `from module import *` does in another module."""
    public = [name for name in vars(module) if not name.startswith("_")]
    names = getattr(module, "__all__", public)
    vars(target).update({name: getattr(module, name) for name in names})


def _find_buckets() -> None:
    """Make Beam import its file system for gs:// with the first such path."""
    from apache_beam.io.filesystems import FileSystems

    find = FileSystems.get_filesystem

    def find_also_buckets(path: str) -> Any:
        if path.startswith("gs://"):
            importlib.import_module("apache_beam.io.gcp.gcsfilesystem")
        return find(path)

    FileSystems.get_filesystem = staticmethod(find_also_buckets)  # type: ignore[method-assign]


def _show_google_to_beam() -> None:
    from apache_beam.runners.dataflow import dataflow_runner
    from apache_beam.utils import retry

    with contextlib.suppress(ImportError):  # as Beam does, if the extra is not installed
        from apitools.base.py.exceptions import HttpError
        from google.api_core.exceptions import GoogleAPICallError
        from google.cloud import dataflow

        vars(retry).update(HttpError=HttpError, GoogleAPICallError=GoogleAPICallError)
        vars(dataflow_runner).update(dataflow_api=dataflow)


def _show_pandas_to_beam() -> None:
    from apache_beam import typehints
    from apache_beam.typehints import pandas_type_compatibility

    _export(pandas_type_compatibility, typehints)
