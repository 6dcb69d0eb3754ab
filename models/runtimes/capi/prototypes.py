"""Every function of TensorFlow's C API that is called, with its prototype.

A wrong prototype crashes the process. The source is tensorflow/c/c_api.h, tf_tensor.h and
tf_tstring.h, which TensorFlow keeps stable within a major version.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

_POINTER = ctypes.c_void_p
_TEXT = ctypes.c_char_p
_INT = ctypes.c_int
_SIZE = ctypes.c_size_t

# void (*deallocator)(void* data, size_t len, void* arg)
DEALLOCATOR = ctypes.CFUNCTYPE(None, _POINTER, _SIZE, _POINTER)


class Output(ctypes.Structure):
    """TF_Output: one output of an operation of a graph."""

    _fields_ = [("oper", _POINTER), ("index", _INT)]


class Prototype(NamedTuple):
    """The result and the arguments of a function.

    `drops_gil` is true for calls that may take long: other Python threads run meanwhile. To drop
    and take the GIL would cost more than the others take.
    """

    result: Any
    arguments: Sequence[Any]
    drops_gil: bool = False


PROTOTYPES: dict[str, Prototype] = {
    "TF_Version": Prototype(_TEXT, []),
    # TF_Status
    "TF_NewStatus": Prototype(_POINTER, []),
    "TF_DeleteStatus": Prototype(None, [_POINTER]),
    "TF_GetCode": Prototype(_INT, [_POINTER]),
    "TF_Message": Prototype(_TEXT, [_POINTER]),
    # TF_Buffer: bytes that TensorFlow holds
    "TF_NewBufferFromString": Prototype(_POINTER, [_TEXT, _SIZE]),
    "TF_DeleteBuffer": Prototype(None, [_POINTER]),
    # TF_Tensor
    "TF_TensorDefaultAlignment": Prototype(_SIZE, []),
    "TF_NewTensor": Prototype(
        _POINTER, [_INT, _POINTER, _INT, _POINTER, _SIZE, DEALLOCATOR, _POINTER]
    ),
    "TF_DeleteTensor": Prototype(None, [_POINTER]),
    "TF_TensorType": Prototype(_INT, [_POINTER]),
    "TF_NumDims": Prototype(_INT, [_POINTER]),
    "TF_Dim": Prototype(ctypes.c_int64, [_POINTER, _INT]),
    "TF_TensorData": Prototype(_POINTER, [_POINTER]),
    "TF_TensorByteSize": Prototype(_SIZE, [_POINTER]),
    "TF_TensorIsAligned": Prototype(ctypes.c_bool, [_POINTER]),
    # TF_TString
    "TF_StringInit": Prototype(None, [_POINTER]),
    "TF_StringCopy": Prototype(None, [_POINTER, _TEXT, _SIZE]),
    "TF_StringAssignView": Prototype(None, [_POINTER, _TEXT, _SIZE]),
    "TF_StringDealloc": Prototype(None, [_POINTER]),
    "TF_StringGetType": Prototype(_INT, [_POINTER]),
    "TF_StringGetSize": Prototype(_SIZE, [_POINTER]),
    "TF_StringGetDataPointer": Prototype(_POINTER, [_POINTER]),
    # TF_Graph and its operations
    "TF_NewGraph": Prototype(_POINTER, []),
    "TF_DeleteGraph": Prototype(None, [_POINTER], drops_gil=True),
    "TF_GraphOperationByName": Prototype(_POINTER, [_POINTER, _TEXT]),
    "TF_OperationNumOutputs": Prototype(_INT, [_POINTER]),
    "TF_NewOperation": Prototype(_POINTER, [_POINTER, _TEXT, _TEXT]),
    "TF_AddInput": Prototype(None, [_POINTER, Output]),
    "TF_SetAttrType": Prototype(None, [_POINTER, _TEXT, _INT]),
    "TF_FinishOperation": Prototype(_POINTER, [_POINTER, _POINTER]),
    # TF_Session
    "TF_NewSessionOptions": Prototype(_POINTER, []),
    "TF_DeleteSessionOptions": Prototype(None, [_POINTER]),
    "TF_SetConfig": Prototype(None, [_POINTER, _TEXT, _SIZE, _POINTER]),
    # session options, run options, folder, tags, their number, graph, meta graph, status
    "TF_LoadSessionFromSavedModel": Prototype(
        _POINTER,
        [_POINTER, _POINTER, _TEXT, ctypes.POINTER(_TEXT), _INT, _POINTER, _POINTER, _POINTER],
        drops_gil=True,
    ),
    # session, run options; places, tensors and number of inputs; those of outputs; operations to
    # run besides and their number; metadata, status
    "TF_SessionRun": Prototype(
        None,
        [_POINTER, _POINTER]
        + [ctypes.POINTER(Output), ctypes.POINTER(_POINTER), _INT] * 2
        + [ctypes.POINTER(_POINTER), _INT, _POINTER, _POINTER],
        drops_gil=True,
    ),
    "TF_CloseSession": Prototype(None, [_POINTER, _POINTER], drops_gil=True),
    "TF_DeleteSession": Prototype(None, [_POINTER, _POINTER], drops_gil=True),
    # libraries of custom ops
    "TF_LoadLibrary": Prototype(_POINTER, [_TEXT, _POINTER], drops_gil=True),
    "TF_DeleteLibraryHandle": Prototype(None, [_POINTER]),
}
