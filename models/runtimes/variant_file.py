"""The folder of a variant: a model in parts, which Scoreline's passes wrote.

    variant.json        the signature, how the parts join, and the digests of the other files
    model.tflite        the numeric part, for calls of a fixed number of rows
    lookup_0.arrow …    lookup tables, from text to codes
    front/              a SavedModel: the part that LiteRT cannot run; only if there is such a part

Options and choice: docs/decisions/0032-variants.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from scoreline.models.artifact import VARIANT_FILE, digest_file
from scoreline.models.errors import ModelError
from scoreline.models.signature import Signature

FORMAT = 1
MODEL_FILE, FRONT_FOLDER = "model.tflite", "front"
# Where an input of the numeric part comes from.
INPUT, LOOKUP, FRONT = "input", "lookup", "front"
_AGAIN = "Copy the folder again, or make the variant again from its parent"


class PassRecord(NamedTuple):
    """A pass that made a variant.

    Attributes:
      name: of the pass: `fold_batch_norm`.
      version: of its code; another version may give other scores.
      settings: its arguments.
      notes: what it did, and what it left as it was, and why.
    """

    name: str
    version: int
    settings: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()


class LookupFile(NamedTuple):
    """A lookup of an input: the Arrow file, and the value of a key that it does not have."""

    input: str
    file: str
    default: int | float


class Source(NamedTuple):
    """Where an input of the numeric part comes from.

    Attributes:
      kind: `input`, `lookup` or `front`.
      name: of the variant's input, the position of the lookup, or the output of the front.
    """

    kind: str
    name: str


class Manifest(NamedTuple):
    """What `variant.json` holds.

    Attributes:
      signature: the inputs and outputs of the variant; its fixed batch is the size of calls.
      sources: for each input of the numeric part, where it comes from.
      outputs: for each output of the signature, the output of the numeric part.
      lookups: lookup tables.
      front_inputs: the inputs that the front takes; none if there is no front.
      files: `sha256:…` of each other file, by its path in the folder.
      parent_digest: `sha256:…` of the model that the variant was made from.
      passes: what made it, in order.
    """

    signature: Signature
    sources: Mapping[str, Source]
    outputs: Mapping[str, str]
    lookups: tuple[LookupFile, ...]
    front_inputs: tuple[str, ...]
    files: Mapping[str, str]
    parent_digest: str
    passes: tuple[PassRecord, ...]

    def to_json(self) -> str:
        """Return the text of the file."""
        passes = [[*record[:2], dict(record.settings), record.notes] for record in self.passes]
        held = {"format": FORMAT, **self._asdict(), "passes": passes}
        return json.dumps(held, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Return what `to_json` wrote; raises LookupError, TypeError or ValueError otherwise."""
        held = json.loads(text)
        if held["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {held['format']}")
        return cls(
            Signature.from_json(json.dumps(held["signature"])),
            {name: Source(*source) for name, source in held["sources"].items()},
            held["outputs"],
            tuple(LookupFile(*lookup) for lookup in held["lookups"]),
            tuple(held["front_inputs"]),
            held["files"],
            held["parent_digest"],
            tuple(
                PassRecord(name, version, settings, tuple(notes))
                for name, version, settings, notes in held["passes"]
            ),
        )


def read_manifest(path: str) -> Manifest:
    """Return the manifest of a variant, after a check that all its files are whole.

    Raises:
      ModelError: a file is missing, damaged, or of another version of Scoreline.
    """
    try:
        manifest = Manifest.from_json(Path(path, VARIANT_FILE).read_text("utf-8"))
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as e:
        raise ModelError(
            f"Variant {path} does not load: {VARIANT_FILE} is damaged, or another version of "
            f"Scoreline wrote it ({type(e).__name__}: {e}). {_AGAIN}"
        ) from e
    # A damaged .tflite can end the process.
    for name, digest in manifest.files.items():
        file = Path(path, name)
        found = digest_file(file) if file.is_file() else "no such file"
        if found != digest:
            raise ModelError(
                f"Variant {path} does not load: expected {digest} for its file {name}, got {found}."
                f" {_AGAIN}"
            )
    return manifest
