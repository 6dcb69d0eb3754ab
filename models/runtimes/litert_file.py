"""Facts of a `.tflite` file that no interpreter tells: its ops, and what keeps state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

# Custom ops that LiteRT's Python package has.
_CUSTOM_OPS = {
    "TFLite_Detection_PostProcess",
    "Mfcc",
    "AudioSpectrogram",
    "NumericVerify",
}
_FLEX = "Flex"
# Ops that change a resource: it keeps its value until the next call of an interpreter.
_WRITES_STATE = {"ASSIGN_VARIABLE"}


class LiteRTFacts(NamedTuple):
    """Facts of a `.tflite` file.

    Attributes:
      ops: the name of each op, as often as it occurs; custom ops with their own names.
      has_variables: whether it has variable tensors, as fused LSTMs do: an interpreter keeps them
        from call to call, and can reset them.
      writes_state: whether a call writes a resource, which no interpreter can reset.
      description: what the converter wrote about the file.
    """

    ops: tuple[str, ...]
    has_variables: bool
    writes_state: bool
    description: str

    def find_problem(self) -> str:
        """Return which ops LiteRT lacks and what to do; "" if it has all of them."""
        flex = sorted({op for op in self.ops if op.startswith(_FLEX)})
        if flex:
            names = ", ".join(op.removeprefix(_FLEX) for op in flex)
            return (
                f"it has ops of TensorFlow ({names}), which LiteRT does not have. Score the "
                "SavedModel that it was converted from, or convert the model without "
                "SELECT_TF_OPS"
            )
        return ""


def read_litert_file(content: bytes) -> LiteRTFacts:
    """Return the facts of a `.tflite` file.

    Raises:
      ImportError: LiteRT is not installed.
      Exception: the file is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graphs = [model.Subgraphs(number) for number in range(model.SubgraphsLength())]
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    codes = [_op_name(model.OperatorCodes(i), names) for i in range(model.OperatorCodesLength())]
    ops = [[codes[node.OpcodeIndex()] for node in _nodes(graph)] for graph in graphs]
    starts = _initializers(schema, graphs, codes)
    return LiteRTFacts(
        ops=tuple(op for graph in ops for op in graph),
        has_variables=any(
            graph.Tensors(number).IsVariable()
            for graph in graphs
            for number in range(graph.TensorsLength())
        ),
        writes_state=any(
            op in _WRITES_STATE
            for number, graph in enumerate(ops)
            if number not in starts
            for op in graph
        ),
        description=(model.Description() or b"").decode(errors="replace"),
    )


def _op_name(code: Any, names: dict[int, str]) -> str:
    # Files of older converters have only the deprecated byte.
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = names.get(builtin, f"BUILTIN_{builtin}")
    return (code.CustomCode() or b"").decode(errors="replace") if name == "CUSTOM" else name


def _nodes(graph: Any) -> Iterator[Any]:
    return (graph.Operators(number) for number in range(graph.OperatorsLength()))


def _initializers(schema: Any, graphs: list[Any], codes: list[str]) -> set[int]:
    """Return the subgraphs that run once, to set the first values of resources."""
    found = set()
    for graph in graphs:
        for node in _nodes(graph):
            if codes[node.OpcodeIndex()] == "CALL_ONCE":
                table = node.BuiltinOptions()
                options = schema.CallOnceOptions()
                options.Init(table.Bytes, table.Pos)
                found.add(options.InitSubgraphIndex())
    return found
