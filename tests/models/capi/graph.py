"""A graph of a few ops and its session, made by the C API: quicker than a SavedModel."""

from __future__ import annotations

import ctypes

from scoreline.models.runtimes.capi.config import session_config
from scoreline.models.runtimes.capi.library import find_folder, load_library
from scoreline.models.runtimes.capi.prototypes import Output
from scoreline.models.runtimes.capi.tensors import DTYPE_NUMBERS, fed, take_outputs

_POINTER = ctypes.c_void_p
# RunOptions.inter_op_thread_pool = -1: a call runs in the thread that calls.
_IN_CALLERS_THREAD = b"\x18" + b"\xff" * 9 + b"\x01"


class Graph:
    """Ops and a session; `ops` has each by name. Without threads of its own, calls are quickest."""

    def __init__(self, threads: int = 1) -> None:
        self.library = load_library()
        self._c = self.library.c
        self._more = more = ctypes.PyDLL(f"{find_folder()}/libtensorflow_cc.so.2")
        more.TF_NewSession.restype = _POINTER
        more.TF_NewSession.argtypes = [_POINTER] * 3
        more.TF_SetAttrShape.restype = None
        more.TF_SetAttrShape.argtypes = [_POINTER, ctypes.c_char_p, _POINTER, ctypes.c_int]
        more.TF_AddInputList.restype = None
        more.TF_AddInputList.argtypes = [_POINTER, ctypes.POINTER(Output), ctypes.c_int]
        self.ops = {}
        self._graph = self._c.TF_NewGraph()
        options = self._c.TF_NewSessionOptions()
        config = session_config(threads_in_call=1, concurrent_calls=threads or 1)
        self.library.call(self._c.TF_SetConfig, options, config, len(config))
        self._session = self.library.call(more.TF_NewSession, self._graph, options)
        self._c.TF_DeleteSessionOptions(options)
        self._options = None
        if not threads:
            size = len(_IN_CALLERS_THREAD)
            self._options = self._c.TF_NewBufferFromString(_IN_CALLERS_THREAD, size)

    def add(self, kind, name, inputs=(), listed=(), any_shape=False, **dtypes):
        """Add an op; `dtypes` are its attributes that name dtypes."""
        op = self._c.TF_NewOperation(self._graph, kind.encode(), name.encode())
        for given in inputs:
            self._c.TF_AddInput(op, Output(self.ops[given], 0))
        if listed:
            places = [Output(self.ops[given], 0) for given in listed]
            self._more.TF_AddInputList(op, (Output * len(places))(*places), len(places))
        for attribute, dtype in dtypes.items():
            self._c.TF_SetAttrType(op, attribute.encode(), DTYPE_NUMBERS[dtype])
        if any_shape:
            self._more.TF_SetAttrShape(op, b"shape", None, -1)
        self.ops[name] = self.library.call(self._c.TF_FinishOperation, op)
        return self

    def run(self, inputs, outputs, targets=()):
        """Feed {name: (value, dtype)}, and return the values of outputs."""
        with fed(self.library, inputs.values()) as tensors:
            count = len(tensors)
            feeds = (Output * count)(*(Output(self.ops[name], 0) for name in inputs))
            fetches = (Output * len(outputs))(*(Output(self.ops[name], 0) for name in outputs))
            results = (_POINTER * len(outputs))()
            self.library.call(
                self._c.TF_SessionRun,
                *(self._session, self._options, feeds, (_POINTER * count)(*tensors), count),
                *(fetches, results, len(outputs)),
                *((_POINTER * len(targets))(*(self.ops[name] for name in targets)), len(targets)),
                None,
            )
        return take_outputs(self.library, list(results))

    def close(self):
        """Free all."""
        self.library.call(self._c.TF_CloseSession, self._session)
        self.library.call(self._c.TF_DeleteSession, self._session)
        self._c.TF_DeleteGraph(self._graph)
        if self._options is not None:
            self._c.TF_DeleteBuffer(self._options)


def identity(dtype, threads=1):
    """Return a graph whose output `y` is its input `x`."""
    graph = Graph(threads)
    return graph.add("Placeholder", "x", dtype=dtype).add("Identity", "y", ["x"], T=dtype)
