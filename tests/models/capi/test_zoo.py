"""Every kind of SavedModel by both runtimes: equal bits in two calls, or a known reason why not.

One process makes and calls all of them (`tests.runtimes`), so that TensorFlow is imported once. A
new TensorFlow is admitted when this passes.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys

import pytest

from tests.fakes import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Models that the C API cannot call, and how it says so.
NOT_BY_C = {
    "tf1": r'does not load: Endpoint "names:0" fed more than once',
    "tf1_one_tensor_under_two_names": "does not load: two inputs of the signature are one tensor",
    "no_kernel": "fails: No OpKernel was registered to support Op 'CudnnRNN'",
    "odd_python": "refused: Signature 'serving_default' calls Python code",
    "odd_empty": "refused: Model .* has an input or output without a name",
}
# SavedModels of `tests.model_zoo`, and those of `tests.odd_models` by their folder.
OF_ZOO = (
    "module",
    "keras_3_export",
    "keras_2",
    "tf1",
    "estimator",
    "examples",
    "custom_op",
    "slow",
)
ODD = {"odd_tf1": ("names", "two_graphs", "empty"), "odd_tf2": ("python", "case", "divides")}


def kinds_of_runtime_models():
    """Return the names of the models, without the import of TensorFlow."""
    files = sorted((ROOT / "tests" / "runtime_models").glob("*.py"))
    bodies = [node for file in files for node in ast.parse(file.read_text("utf-8")).body]
    functions = [node for node in bodies if isinstance(node, ast.FunctionDef)]
    return [f.name for f in functions if [ast.unparse(d) for d in f.decorator_list] == ["kind"]]


KINDS = [
    *kinds_of_runtime_models(),
    *OF_ZOO,
    *(f"odd_{name}" for names in ODD.values() for name in names),
]


@pytest.fixture(scope="module")
def results(zoo, tmp_path_factory):
    paths = {name: zoo(name) for name in OF_ZOO}
    paths |= {f"odd_{n}": f"{zoo(kind)}/{n}" for kind, names in ODD.items() for n in names}
    pairs = [f"{name}={path}" for name, path in paths.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtimes", str(tmp_path_factory.mktemp("models")), *pairs],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_both_runtimes_give_the_same_bits_or_the_reason_is_known(results, kind):
    wanted = NOT_BY_C.get(kind)
    if wanted is None:
        assert results[kind] == "equal"
    else:
        assert re.match(wanted, results[kind]), results[kind]
