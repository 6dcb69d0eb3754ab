"""A custom op that does to a model what a load test shall find: it waits, locks, or leaks."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from scoreline.models.runtimes.tensorflow import import_tensorflow
from tests.model_zoo import save_function
from tests.required import fail_or_skip


def build_op(path: Path) -> str:
    """Compile the op into a library for `--load_op_library`, and return its path."""
    if not (compiler := shutil.which("c++")):
        fail_or_skip("plants in a model: there is no compiler `c++`")
    package = Path(importlib.util.find_spec("tensorflow").submodule_search_locations[0])
    source = Path(__file__).with_name("planted_op.cc")
    flags = ["-O2", "-shared", "-fPIC", f"-I{package / 'include'}", f"-o{path}"]
    link = [f"-L{package}", "-l:libtensorflow_framework.so.2"]
    subprocess.run([compiler, *flags, source, *link], check=True)
    return str(path)


def save_planted(
    path: Path,
    library: str,
    *,
    wait_us: int = 0,
    hold_us: int = 0,
    leak_bytes: int = 0,
) -> str:
    """Save y = x with the op, and return the path.

    Args:
      path: the path of the model.
      library: the path of the op's library.
      wait_us: microseconds of waiting for each row. Workers wait side by side.
      hold_us: microseconds for each row in which one worker of the process holds a lock, and all
        others stop.
      leak_bytes: memory that is never freed, for each row.
    """
    tf = import_tensorflow()
    planted = tf.load_op_library(library).planted

    def serve(x):
        y = planted(x, wait_us=wait_us, hold_us=hold_us, leak_bytes=leak_bytes)
        return {"y": tf.ensure_shape(y, [None])}

    save_function(path, serve, tf.TensorSpec([None], tf.float32, name="x"))
    return str(path)
