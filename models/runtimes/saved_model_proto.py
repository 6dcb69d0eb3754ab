"""The messages of a SavedModel's file, read without TensorFlow.

The descriptors have a pool and a package of their own, so TensorFlow's can be imported later in the
same process. They name the fields that Scoreline reads; the others are kept, as unknown fields.
Tests compare them with TensorFlow's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

from scoreline.models.artifact import refuse_empty
from scoreline.models.errors import ModelError, first_lines

_PACKAGE = "scoreline.saved_model"
# TensorFlow's name of each dtype, by its number. That of a reference is 100 higher.
DTYPES: Mapping[int, str] = {
    **{1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string"},
    **{8: "complex64", 9: "int64", 10: "bool", 11: "qint8", 12: "quint8", 13: "qint32"},
    **{14: "bfloat16", 15: "qint16", 16: "quint16", 17: "uint16", 18: "complex128", 19: "float16"},
    **{20: "resource", 21: "variant", 22: "uint32", 23: "uint64", 24: "float8_e5m2"},
    **{25: "float8_e4m3fn", 26: "float8_e4m3fnuz", 27: "float8_e4m3b11fnuz"},
    **{28: "float8_e5m2fnuz", 29: "int4", 30: "uint4", 31: "int2", 32: "uint2"},
    **{33: "float4_e2m1fn"},
}
_REFERENCE = 100
_ENUM_NAMES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}
SPARSE_SPEC, RAGGED_SPEC = 1, 3
_SPEC_CLASSES = {"UNKNOWN": 0, "SPARSE_TENSOR_SPEC": SPARSE_SPEC, "INDEXED_SLICES_SPEC": 2} | {
    **{"RAGGED_TENSOR_SPEC": RAGGED_SPEC, "TENSOR_ARRAY_SPEC": 4, "DATA_DATASET_SPEC": 5},
    **{"DATA_ITERATOR_SPEC": 6, "OPTIONAL_SPEC": 7, "PER_REPLICA_SPEC": 8, "VARIABLE_SPEC": 9},
    **{"ROW_PARTITION_SPEC": 10, "REGISTERED_TYPE_SPEC": 12, "EXTENSION_TYPE_SPEC": 13},
}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "int64": _Field.TYPE_INT64,
    "bool": _Field.TYPE_BOOL,
}
# Each message: its fields as `name: "number type"`, with `*` for repeated, `map` for a map of
# strings to messages, and `/oneof` for a member of a oneof.
_MESSAGES: Mapping[str, Mapping[str, str]] = {
    "SavedModel": {"saved_model_schema_version": "1 int64", "meta_graphs": "2 MetaGraphDef*"},
    "MetaGraphDef": {
        "meta_info_def": "1 MetaInfoDef",
        "graph_def": "2 GraphDef",
        "signature_def": "5 map SignatureDef",
        "object_graph_def": "7 SavedObjectGraph",
    },
    "MetaInfoDef": {"tags": "4 string*", "tensorflow_version": "5 string"},
    "SignatureDef": {"inputs": "1 map TensorInfo", "outputs": "2 map TensorInfo"},
    "TensorInfo": {
        "name": "1 string/encoding",
        "dtype": "2 DataType",
        "tensor_shape": "3 TensorShapeProto",
        "coo_sparse": "4 CooSparse/encoding",
        "composite_tensor": "5 CompositeTensor/encoding",
    },
    "CooSparse": {
        "values_tensor_name": "1 string",
        "indices_tensor_name": "2 string",
        "dense_shape_tensor_name": "3 string",
    },
    "CompositeTensor": {"type_spec": "1 TypeSpecProto", "components": "2 TensorInfo*"},
    "TypeSpecProto": {"type_spec_class": "1 TypeSpecClass", "type_state": "2 StructuredValue"},
    "StructuredValue": {
        "tensor_shape_value": "31 TensorShapeProto/kind",
        "tensor_dtype_value": "32 DataType/kind",
        "tuple_value": "52 TupleValue/kind",
    },
    "TupleValue": {"values": "1 StructuredValue*"},
    "TensorShapeProto": {"dim": "2 Dim*", "unknown_rank": "3 bool"},
    "Dim": {"size": "1 int64"},
    "GraphDef": {"node": "1 NodeDef*", "library": "2 FunctionDefLibrary"},
    "FunctionDefLibrary": {"function": "1 FunctionDef*"},
    "FunctionDef": {"signature": "1 OpDef", "node_def": "3 NodeDef*"},
    "OpDef": {"name": "1 string"},
    "NodeDef": {
        "name": "1 string",
        "op": "2 string",
        "input": "3 string*",
        "attr": "5 map AttrValue",
    },
    "AttrValue": {
        "list": "1 ListValue/value",
        "s": "2 bytes/value",
        "i": "3 int64/value",
        "b": "5 bool/value",
        "type": "6 DataType/value",
        "shape": "7 TensorShapeProto/value",
        "tensor": "8 TensorProto/value",
        "func": "10 NameAttrList/value",
    },
    "ListValue": {
        "s": "2 bytes*",
        "i": "3 int64*",
        "type": "6 DataType*",
        "shape": "7 TensorShapeProto*",
        "func": "9 NameAttrList*",
    },
    "NameAttrList": {"name": "1 string"},
    "TensorProto": {
        "dtype": "1 DataType",
        "tensor_shape": "2 TensorShapeProto",
        "string_val": "8 bytes*",
    },
    "SavedObjectGraph": {"nodes": "1 SavedObject*"},
    "SavedObject": {
        "slot_variables": "3 SlotVariableReference*",
        "user_object": "4 SavedUserObject/kind",
    },
    "SlotVariableReference": {},
    "SavedUserObject": {"identifier": "1 string"},
}


def parse_saved_model(path: str) -> Any:
    """Return the SavedModel message of a model's directory; nothing is loaded.

    As TensorFlow does, `saved_model.pb` is read, or `saved_model.pbtxt` if there is no such file.

    Raises:
      ModelError: the file cannot be read, or is damaged.
    """
    refuse_empty(path)
    binary, text = Path(path, "saved_model.pb"), Path(path, "saved_model.pbtxt")
    file = binary if binary.exists() or not text.exists() else text
    proto = message_class("SavedModel")()
    try:
        if file == binary:
            proto.ParseFromString(file.read_bytes())
        else:
            text_format.Parse(file.read_text("utf-8"), proto, allow_unknown_field=True)
    except OSError as e:
        raise ModelError(f"Model {path} does not load: {type(e).__name__}: {e}") from e
    except (message.DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as e:
        raise ModelError(
            f"Model {path} does not load: {file.name} is damaged or is no SavedModel: "
            f"{first_lines(e)}. Copy or export the model again"
        ) from e
    return proto


@functools.cache
def message_class(name: str) -> Any:
    """Return the class of a message: `SavedModel`, or one within it."""
    found = _pool().FindMessageTypeByName(f"{_PACKAGE}.{name}")
    return message_factory.GetMessageClass(found)


@functools.cache
def _pool() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="scoreline/saved_model.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        _add_message(file.message_type.add(name=name), fields)
    _add_enum(file, "TypeSpecClass", _SPEC_CLASSES)
    names = {n: f"DT_{_ENUM_NAMES.get(dtype, dtype.upper())}" for n, dtype in DTYPES.items()}
    references = {f"{name}_REF": number + _REFERENCE for number, name in names.items()}
    known = {name: number for number, name in names.items()}
    _add_enum(file, "DataType", {"DT_INVALID": 0, **known, **references})
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_message(message_type: Any, fields: Mapping[str, str]) -> None:
    oneofs: dict[str, int] = {}
    for name, text in fields.items():
        number, *is_map, kind = text.split()
        kind, _, oneof = kind.partition("/")
        field = message_type.field.add(name=name, number=int(number))
        if is_map:
            entry = message_type.nested_type.add(name=_entry_of(name))
            entry.options.map_entry = True
            _add_message(entry, {"key": "1 string", "value": f"2 {kind}"})
            kind = f"{message_type.name}.{entry.name}"
        field.label = (
            _Field.LABEL_REPEATED if is_map or kind.endswith("*") else _Field.LABEL_OPTIONAL
        )
        kind = kind.removesuffix("*")
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            is_enum = kind in ("DataType", "TypeSpecClass")
            field.type = _Field.TYPE_ENUM if is_enum else _Field.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{kind}"
        if oneof:
            if oneof not in oneofs:
                oneofs[oneof] = len(oneofs)
                message_type.oneof_decl.add(name=oneof)
            field.oneof_index = oneofs[oneof]


def _entry_of(field: str) -> str:
    return "".join(part.capitalize() for part in field.split("_")) + "Entry"


def _add_enum(file: Any, name: str, values: Mapping[str, int]) -> None:
    enum = file.enum_type.add(name=name)
    for value, number in values.items():
        enum.value.add(name=value, number=number)


def dtype_of(number: int) -> str:
    """Return TensorFlow's name of a dtype; `dtype 77` of a number that it does not have."""
    if number in DTYPES:
        return DTYPES[number]
    of = DTYPES.get(number - _REFERENCE)
    return f"dtype {number}" if of is None else f"{of}_ref"


def shape_of(proto: Any) -> tuple[int | None, ...] | None:
    """Return a shape of a TensorShapeProto; None if the rank is unknown."""
    if proto.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in proto.dim)
