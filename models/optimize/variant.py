"""A variant in memory, between passes, and how it is written to disk."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.models.artifact import VARIANT_FILE, digest_file, model_files
from scoreline.models.optimize.build import Part
from scoreline.models.optimize.frozen import Table
from scoreline.models.runtimes.lookup import write_lookup
from scoreline.models.runtimes.tensorflow import import_tensorflow
from scoreline.models.runtimes.variant_file import (
    FRONT_FOLDER,
    MODEL_FILE,
    LookupFile,
    Manifest,
    PassRecord,
    Source,
)
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature


class Variant(NamedTuple):
    """A model in parts: lookups, a front in TensorFlow, and a `.tflite` for the rest.

    Attributes:
      signature: its inputs and outputs; the batch is the number of rows of every call.
      content: the bytes of the `.tflite`.
      sources: for each input of the `.tflite`, where it comes from.
      outputs: for each output of the signature, the output of the `.tflite`.
      lookups: for each lookup its input, table and value of a missing key.
      front: the part that stays in TensorFlow; None if there is none.
      front_inputs: the inputs that the front takes.
      parent_digest: `sha256:…` of the model that the variant was made from.
      passes: what made it, in order.
    """

    signature: Signature
    content: bytes
    sources: Mapping[str, Source]
    outputs: Mapping[str, str]
    lookups: tuple[tuple[str, Table, int | float], ...]
    front: Part | None
    front_inputs: tuple[str, ...]
    parent_digest: str
    passes: tuple[PassRecord, ...]


def write_variant(variant: Variant, path: str) -> None:
    """Write a variant to a folder, which appears under its name when it is complete.

    Raises:
      FileExistsError: there is something at the path.
    """
    if Path(path).exists():
        raise FileExistsError(
            f"Expected no file or folder at {path}, where the variant is written. Remove it, or "
            "name another folder"
        )
    folder = Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex}")
    folder.mkdir(parents=True)
    try:
        _write_parts(variant, folder)
        os.rename(folder, path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_parts(variant: Variant, folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(variant.content)
    lookups = []
    for at, (name, table, default) in enumerate(variant.lookups):
        lookup = LookupFile(name, f"lookup_{at}.arrow", default)
        write_lookup(str(folder / lookup.file), _to_keys(table.keys), table.values)
        lookups.append(lookup)
    if variant.front is not None:
        tf = import_tensorflow()
        signatures = {DEFAULT_SIGNATURE: variant.front.function}
        tf.saved_model.save(variant.front.module, str(folder / FRONT_FOLDER), signatures)
    files = {
        file.relative_to(folder).as_posix(): digest_file(file) for file in model_files(str(folder))
    }
    manifest = Manifest(
        variant.signature,
        variant.sources,
        variant.outputs,
        tuple(lookups),
        variant.front_inputs,
        files,
        variant.parent_digest,
        variant.passes,
    )
    (folder / VARIANT_FILE).write_text(manifest.to_json(), "utf-8")


def _to_keys(keys: np.ndarray) -> pa.Array:
    return pa.array(keys, pa.large_binary() if keys.dtype == object else None)
