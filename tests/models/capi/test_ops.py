import subprocess
import sys

from scoreline.models.runtimes.capi.errors import LibraryError
from scoreline.models.runtimes.graph_ops import find_unknown
from tests.model_zoo import op_library


def test_ops_are_those_of_the_library_and_of_the_libraries_of_ops():
    program = (
        "import sys\n"
        "from scoreline.models.runtimes.capi.library import load_library\n"
        "from scoreline.models.runtimes.capi.ops import known_ops\n"
        "found = known_ops()\n"
        "loaded = load_library()\n"
        f"loaded.call(loaded.c.TF_LoadLibrary, {op_library().encode()!r})\n"
        "print(len(found) > 1000, sorted(known_ops() - found), 'tensorflow' in sys.modules)\n"
        "from scoreline.models.runtimes.tensorflow import import_tensorflow\n"
        "import_tensorflow()\n"
        "from tensorflow.python.framework import op_def_registry\n"
        "print([op for op in found if op_def_registry.get(op) is None])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["True ['AudioMicrofrontend'] False", "[]"]


def test_without_the_library_pythons_tensorflow_is_asked(monkeypatch):
    def fail():
        raise LibraryError("missing")

    known = find_unknown(["MatMul", "Nonsense"])
    monkeypatch.setattr("scoreline.models.runtimes.capi.ops.load_library", fail)
    assert find_unknown(["MatMul", "Nonsense"]) == known == {"Nonsense"}
