"""The variables of a loaded session: those that must have a value, and those that lack one."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from scoreline.models.runtimes.capi.session import Place, Session, places
from scoreline.models.runtimes.graph_ops import needed_nodes, node_of

_NAME = "scoreline"  # of operations that are added, before their numbers


class _Twins(NamedTuple):
    """A variable that functions read, and the one that the checkpoint restores in its place."""

    read: str
    restored: str


class Variables:
    """The resource variables of a session."""

    def __init__(self, session: Session, nodes: Iterable[Any]) -> None:
        """Take a session, and the NodeDefs of its graph."""
        self._session = session
        self._nodes = {node.name: node for node in nodes}
        self._added = 0

    def fill(self, tensors: Iterable[str]) -> list[str]:
        """Give a value to variables that the checkpoint restores under another name.

        `tf.saved_model.save` of a Keras 3 model writes each of its variables twice: Y, which the
        functions read, and X, which begins as `X = read(Y)`, and which the checkpoint restores.
        Python's loader knows that they are one. So Y = read(X), where X has a value and Y has none.

        Returns:
          The variables, sorted, that some tensors depend on and that still have no value. Others do
          not matter: exports of Keras hold some that no signature reads.
        """
        twins = self._find_twins()
        needed = needed_nodes(self._nodes, tensors)
        used = sorted(node.name for node in needed if node.op == "VarHandleOp")
        # All in one call, because TensorFlow prepares the graph anew for each set of outputs.
        empty = set(self._without_value({*used, *(name for pair in twins for name in pair)}))
        filled = [pair for pair in twins if pair.read in empty and pair.restored not in empty]
        if filled:
            self._session.run(places([]), [], places([]), [self._assign(pair) for pair in filled])
        empty.difference_update(pair.read for pair in filled)
        return [name for name in used if name in empty]

    def _find_twins(self) -> list[_Twins]:
        found = {}
        for node in self._nodes.values():
            if node.op != "AssignVariableOp" or len(node.input) < 2:
                continue
            restored, value = (node_of(tensor) for tensor in node.input[:2])
            if self._op_of(value) != "ReadVariableOp":
                continue
            read = node_of(self._nodes[value].input[0])
            are_variables = {self._op_of(restored), self._op_of(read)} == {"VarHandleOp"}
            if are_variables and read != restored:
                found[read] = _Twins(read, restored)
        return list(found.values())

    def _op_of(self, name: str) -> str:
        return self._nodes[name].op if name in self._nodes else ""

    def _assign(self, pair: _Twins) -> int:
        """Return an operation that gives a variable the value of its twin."""
        dtype = {"dtype": self._nodes[pair.read].attr["dtype"].type}
        value = self._add("ReadVariableOp", [self._session.find(pair.restored)], dtype)
        place = self._session.find(pair.read)
        return self._add("AssignVariableOp", [place, value], dtype).operation

    def _without_value(self, variables: Collection[str]) -> list[str]:
        names = sorted(variables)
        if not names:
            return []
        asked = [self._add("VarIsInitializedOp", [self._session.find(name)], {}) for name in names]
        found = self._session.run(places([]), [], places(asked))
        return [name for name, tensor in zip(names, found, strict=True) if not self._take(tensor)]

    def _take(self, tensor: int) -> bool:
        """Return the one truth value of a tensor, and free it."""
        c = self._session.library.c
        try:
            return ctypes.c_bool.from_address(c.TF_TensorData(tensor)).value
        finally:
            c.TF_DeleteTensor(tensor)

    def _add(self, op: str, inputs: Sequence[Place], types: Mapping[str, int]) -> Place:
        self._added += 1
        return self._session.add(op, f"{_NAME}/{self._added}", inputs, types)
