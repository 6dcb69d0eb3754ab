"""Loads a model and scores Arrow data with it in this process, without Beam."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.lake.elements import DeadRows
from scoreline.lake.table.letters import LETTER_COLUMNS
from scoreline.models.errors import ImpureModel
from scoreline.models.servable import Servable
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature
from scoreline.transforms.metrics import Tally
from scoreline.transforms.purity import PurityGate, check_rows
from scoreline.transforms.scoring import ScoreSpec, Serving, score_batch
from scoreline.transforms.wanted import WantedModel, check_schema, in_python, name_list

# Size of the batch job's record batches: large enough for any model call.
_MAX_BATCH_ROWS = 65_536
# Smaller chunks are joined: the copy costs less than a model call per chunk.
_MIN_CHUNK_ROWS = 8_192


class Scores(NamedTuple):
    """The scores of a table.

    Attributes:
      table: the scored rows, in the order of the input: keys, kept columns, outputs,
        `model_digest`.
      dead_letters: the rows that could not be scored, in the order of the input: all their
        columns, then `_step` (what failed), `_reason` (why), `_row` (their index, from 0) and
        `_model_digest`.
    """

    table: pa.Table
    dead_letters: pa.Table


class LoadedModel:
    """A model in this process that scores Arrow data. Thread-safe.

    Attributes:
      signature: the inputs and outputs of the signature, with their dtypes and shapes.
      digest: `sha256:…` of the model's files.
    """

    def __init__(self, wanted: WantedModel) -> None:
        """Load the model and call it once. Users call `scoreline.load` instead."""
        self._wanted = wanted
        self._gate = PurityGate(wanted.allow_impure or "", check_rows)
        self._model: Servable = wanted.load(shared=False)
        self.signature: Signature = self._model.signature
        self.digest: str = self._model.digest
        wanted.to_spec(self._model, ())

    def score(
        self,
        rows: pa.Table | pa.RecordBatch,
        *,
        keys: Sequence[str] = (),
        keep: Sequence[str] = (),
    ) -> Scores:
        """Score each row of a table or record batch.

        Columns feed the inputs of the same name, or as set in `load`. Input types are those of the
        batch job: chunked and dictionary-encoded columns, fields of structs, lists. A cast that can
        lose values is made only on request. If a row lacks a value, or the model fails on it, this
        row becomes a dead letter, and no other row.

        Args:
          rows: the input; unused columns are not read.
          keys: columns that identify a row; they are copied to the result.
          keep: further columns to copy; `parent.child` copies a field of a struct.

        Raises:
          ValueError: the columns cannot feed the model, a column to copy is missing, two columns
            of the result have the same name, or a column has the name of one that dead letters add.
            The message lists all problems.
          EveryRowFails: a ValueError: 64 rows spread over the input all fail alone, for the same
            reason. Then the model fails, not the rows.
          ImpureModel: a ValueError: the score of a row depends on more than the row. The first rows
            are checked, up to 1,024.
          ModelError: the model's process died (with `batch_timeout_s`) and cannot be restarted.
        """
        carried = (*name_list("keys", keys), *name_list("keep", keep))
        spec = self._wanted.to_spec(self._model, carried)
        check_schema(self.signature, spec, rows.schema)
        _check_letter_names(rows.schema)
        scored: list[pa.RecordBatch] = []
        dead: list[DeadRows] = []
        first_row = 0
        for batch in _cut(rows):
            self._check_purity(batch, spec)
            result = score_batch(batch, self._model, spec, Tally())
            scored.append(result.batch)
            dead += [
                group._replace(rows=[first_row + row for row in group.rows])
                for group in result.dead
            ]
            first_row += batch.num_rows
        return Scores(pa.Table.from_batches(scored), _to_letters(rows, dead, self.digest))

    def _check_purity(self, batch: pa.RecordBatch, spec: ScoreSpec) -> None:
        if self._gate.is_open:
            return
        try:
            self._gate.pass_through(batch, Serving(self._model, spec))
        except ImpureModel as e:
            raise ImpureModel(in_python(str(e))) from e

    def close(self) -> None:
        """End the model's process, if it has one."""
        self._model.close()


def load(
    path: str | os.PathLike[str],
    *,
    signature: str = DEFAULT_SIGNATURE,
    columns: Mapping[str, str] | None = None,
    fills: Mapping[str, object] | None = None,
    pads: Mapping[str, object] | None = None,
    pad_lengths: Mapping[str, int] | None = None,
    truncate: Sequence[str] = (),
    outputs: Mapping[str, str] | Sequence[str] | None = None,
    batch_rows: int | None = None,
    model_digest: str | None = None,
    op_libraries: Sequence[str] = (),
    tags: Sequence[str] = (),
    batch_timeout_s: float | None = None,
    allow_impure: str | None = None,
) -> LoadedModel:
    """Load a model of any format, call it once as a check, and return it.

    Args:
      path: a SavedModel directory, a `.keras` file, a `.tflite` file or the folder of a variant.
      signature: the key of the signature to call.
      columns: by input tensor, the column that feeds it if their names differ: `column`,
        `parent.child` for a field of a struct, or a conversion such as `float32(column)`.
      fills: by input tensor, the value that replaces nulls. Without one, a null is an error of its
        row.
      pads: by input tensor, the value that fills lists that are too short, up to the fixed size or
        to the longest list of a call.
      pad_lengths: by input tensor of free size, the length that its lists are padded to instead.
        Longer ones are errors of their rows, unless they are cut.
      truncate: input tensors whose lists are cut if they are too long.
      outputs: the output tensors to keep, or a column name for each; `binary(column)` keeps the
        bytes of a string output. By default all outputs, under their own names.
      batch_rows: rows per model call. By default it is tuned while scoring.
      model_digest: `sha256:…` of the model's files; any other model is refused before it runs.
      op_libraries: shared libraries with custom ops, loaded before the model.
      tags: tags of the MetaGraph in a SavedModel that has several. By default the one that
        TensorFlow Serving takes, `serve`.
      batch_timeout_s: maximum seconds for 65,536 rows in the model, which then runs in a separate
        process. Rows that hang or crash it become dead letters. By default it runs in this process.
      allow_impure: the reason to go on if the score of a row depends on other rows, on earlier
        calls or on chance. Without one, the first call of `score` refuses such a model.

    Raises:
      FileNotFoundError: there is no model; the message has what was found instead.
      ModelError: a ValueError: another digest, no such signature, or a model that fails its check.
      ValueError: an argument names no input or output, or holds a value of another dtype.
    """
    wanted = WantedModel.of(
        path,
        signature=signature,
        columns=columns,
        fills=fills,
        pads=pads,
        pad_lengths=pad_lengths,
        truncate=truncate,
        outputs=outputs,
        batch_rows=batch_rows,
        digest=model_digest,
        op_libraries=tuple(op_libraries),
        tags=name_list("tags", tags),
        batch_timeout_s=batch_timeout_s,
        allow_impure=allow_impure,
    )
    return LoadedModel(wanted)


def _check_letter_names(schema: pa.Schema) -> None:
    """Raise ValueError if dead letters would have two columns of one name."""
    if taken := [name for name in LETTER_COLUMNS if name in schema.names]:
        raise ValueError(
            f"expected rows without the columns that dead letters add, got {', '.join(taken)}. "
            f"Rename them, or leave them out: rows.drop_columns({taken})"
        )


def _cut(rows: pa.Table | pa.RecordBatch) -> list[pa.RecordBatch]:
    """Return rows as record batches of a good call size; one empty batch if there are no rows."""
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    chunks = max((column.num_chunks for column in table.columns), default=0)
    if chunks > 1 and table.num_rows < chunks * _MIN_CHUNK_ROWS:
        table = table.combine_chunks()
    batches = table.to_batches(_MAX_BATCH_ROWS)
    return batches or [pa.RecordBatch.from_pylist([], schema=table.schema)]


def _to_letters(rows: pa.Table | pa.RecordBatch, dead: Sequence[DeadRows], digest: str) -> pa.Table:
    found = sorted(
        (row, group.step, in_python(reason))
        for group in dead
        for row, reason in zip(group.rows, group.reasons, strict=True)
    )
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    at, steps, reasons = zip(*found, strict=True) if found else ((), (), ())
    letters = table.take(pa.array(np.array(at, np.int64)))
    why = [
        pa.array(steps, pa.string()),
        pa.array(reasons, pa.string()),
        pa.array(at, pa.int64()),
        pa.repeat(pa.scalar(digest), len(at)),
    ]
    for name, column in zip(LETTER_COLUMNS, why, strict=True):
        letters = letters.append_column(name, column)
    return letters
