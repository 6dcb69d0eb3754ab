import subprocess
import sys

from scoreline.models.runtimes.capi.errors import LibraryError
from scoreline.models.runtimes.unknown_ops import find_unknown
from tests.model_zoo import op_library

AWKWARD = ["", " ", "Nonsense", "MatMul ", "mat mul", "Größe", "A>B", "Mat\0Mul", "_Own", "x" * 999]


def test_unknown_are_those_of_neither_tensorflow_nor_a_library_of_ops():
    program = (
        "import sys\n"
        "from scoreline.models.runtimes.capi.library import load_library\n"
        "from scoreline.models.runtimes.unknown_ops import find_unknown\n"
        "ops = ['MatMul', 'AudioMicrofrontend', 'Nonsense']\n"
        "print(sorted(find_unknown(ops)))\n"
        "loaded = load_library()\n"
        f"loaded.call(loaded.c.TF_LoadLibrary, {op_library().encode()!r})\n"
        "print(sorted(find_unknown(ops)), 'tensorflow' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "['AudioMicrofrontend', 'Nonsense']",
        "['Nonsense'] False",
    ]


def test_names_that_no_op_can_have_are_unknown():
    assert find_unknown([*AWKWARD, "MatMul"]) == {*AWKWARD}


def test_without_the_library_pythons_tensorflow_is_asked(monkeypatch):
    def fail():
        raise LibraryError("missing")

    known = find_unknown(["MatMul", "Nonsense"])
    monkeypatch.setattr("scoreline.models.runtimes.unknown_ops.load_library", fail)
    assert find_unknown(["MatMul", "Nonsense"]) == known == {"Nonsense"}
