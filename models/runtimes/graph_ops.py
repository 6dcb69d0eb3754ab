"""The ops of a TensorFlow graph that a signature reaches, and those that cannot run here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# Ops that call Python code of the process that exported the model, by a number that no other
# process has.
PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
# TensorFlow's messages about an op that this build cannot run.
NO_KERNEL = ("OpKernel", "Could not find device", "Op type not registered")
# Packages that bring ops of these names, as they begin.
_PACKAGES = {
    "Addons>": "tensorflow-addons",
    "TFText>": "tensorflow-text",
    "Sentencepiece": "tensorflow-text",
    "Wordpiece": "tensorflow-text",
    "RegexSplit": "tensorflow-text",
    "NormalizeUTF8": "tensorflow-text",
    "CaseFoldUTF8": "tensorflow-text",
    "FastWordpiece": "tensorflow-text",
    "FastBert": "tensorflow-text",
    "SimpleML": "tensorflow-decision-forests",
    "YggdrasilDecisionForests": "tensorflow-decision-forests",
    "IO>": "tensorflow-io",
}


def ops_of(graph: Any, outputs: Sequence[str] | None = None) -> list[str]:
    """Return the ops of a graph and of the functions that it calls, as often as they occur.

    Args:
      graph: a GraphDef, with its library of functions.
      outputs: the tensors to compute, as `node:0`; None for the whole graph.
    """
    return [node.op for nodes in bodies_of(graph, outputs) for node in nodes]


def bodies_of(graph: Any, outputs: Sequence[str] | None = None) -> Iterator[list[Any]]:
    """Yield the nodes of a graph, then those of each function that it calls; like `ops_of`."""
    nodes = {node.name: node for node in graph.node}
    used = nodes.values() if outputs is None else needed_nodes(nodes, outputs)
    bodies = {function.signature.name: function.node_def for function in graph.library.function}
    todo: list[Iterable[Any]] = [used]
    seen: set[str] = set()
    while todo:
        body = list(todo.pop())
        yield body
        for node in body:
            for name in (node.op, *_called(node)):
                if name in bodies and name not in seen:
                    seen.add(name)
                    todo.append(bodies[name])


def needed_nodes(nodes: Mapping[str, Any], outputs: Iterable[str]) -> Iterator[Any]:
    """Yield the nodes, each once, that some tensors depend on; `nodes` has them by name."""
    todo, seen = [node_of(name) for name in outputs], set()
    while todo:
        name = todo.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        yield nodes[name]
        todo += [node_of(text) for text in nodes[name].input]


def node_of(tensor: str) -> str:
    """Return the name of the node that a tensor, or a control input, is an output of."""
    return tensor.removeprefix("^").partition(":")[0]


def _called(node: Any) -> Iterator[str]:
    """Return the functions that a node names in its attributes."""
    for value in node.attr.values():
        if value.func.name:
            yield value.func.name
        for function in value.list.func:
            yield function.name


def find_python_problem(signature_name: str, ops: Iterable[str]) -> str:
    """Return why a signature that calls Python code cannot be scored; "" if it does not."""
    found = sorted(PYTHON_OPS.intersection(ops))
    if not found:
        return ""
    return (
        f"Signature '{signature_name}' calls Python code of the process that exported it "
        f"({', '.join(found)}: tf.py_function or tf.numpy_function), which a SavedModel does not "
        "hold. Write that code with TensorFlow ops and export the model again, or choose another "
        "--signature"
    )


def describe_missing_op(op: str) -> str:
    """Return where to get an op that TensorFlow itself does not have."""
    for begin, package in _PACKAGES.items():
        if op.startswith(begin):
            return (
                f"It is an op of {package}: load that package's library of ops with "
                "--load_op_library PATH"
            )
    return "Load the library that has this op with --load_op_library PATH"
