"""Load a model and score Arrow data with it in this process; no Beam is needed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scoreline.lake.elements import DeadRows
from scoreline.models.servable import Servable
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature
from scoreline.transforms.metrics import Tally
from scoreline.transforms.scoring import score_batch
from scoreline.transforms.wanted import WantedModel, check_schema, in_python, name_list

# A record batch as the batch job reads them: large enough for any call of a model.
_MAX_BATCH_ROWS = 65_536
# Smaller chunks are copied into larger ones: a call of the model for each would cost more.
_MIN_CHUNK_ROWS = 8_192


class Scores(NamedTuple):
    """What came of a table.

    Attributes:
      table: a row for each row that was scored, in the order of the input: keys, kept columns,
        outputs, `model_digest`.
      dead_letters: the rows that could not be scored, in the order of the input: all their own
        columns, then `_step` (what failed), `_reason` (why) and `_row` (which row it was, from 0).
    """

    table: pa.Table
    dead_letters: pa.Table


class LoadedModel:
    """A model in this process that scores Arrow data; several threads may use it at once.

    Attributes:
      signature: the inputs and outputs of what is called, with their dtypes and shapes.
      digest: `sha256:…` of the model's files.
    """

    def __init__(self, wanted: WantedModel) -> None:
        """Load the model and call it once; `scoreline.load` is the way to make one."""
        self._wanted = wanted
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

        Columns feed the inputs of the same name, or as `load` was told; what a batch job takes is
        taken here: chunked and dictionary-encoded columns, fields of structs, lists. A cast that
        could lose is never made unless it was asked for. A row that lacks a value, or on which the
        model fails, becomes a dead letter; its neighbours do not.

        Args:
          rows: the input; columns that nobody names are not touched.
          keys: columns that identify a row, to be copied to the result.
          keep: further columns to be copied; `parent.child` copies a field of a struct.

        Raises:
          ValueError: the columns cannot feed the model, one to be copied is not there, or two
            columns of the result have one name; says all that is wrong.
          EveryRowFails: a ValueError: 64 rows spread over more all fail alone, for one reason. It
            is then the model that fails, not the rows.
          ModelError: the model's process was lost (with `batch_timeout_s`), and does not come back.
        """
        carried = (*name_list("keys", keys), *name_list("keep", keep))
        spec = self._wanted.to_spec(self._model, carried)
        check_schema(self.signature, spec, rows.schema)
        scored: list[pa.RecordBatch] = []
        dead: list[DeadRows] = []
        first_row = 0
        for batch in _cut(rows):
            result = score_batch(batch, self._model, spec, Tally())
            scored.append(result.batch)
            dead += [
                group._replace(rows=[first_row + row for row in group.rows])
                for group in result.dead
            ]
            first_row += batch.num_rows
        return Scores(pa.Table.from_batches(scored), _to_letters(rows, dead))

    def close(self) -> None:
        """End the model's process, where it has one; a model in this process needs no closing."""
        self._model.close()


def load(
    path: str | os.PathLike[str],
    *,
    signature: str = DEFAULT_SIGNATURE,
    columns: Mapping[str, str] | None = None,
    fills: Mapping[str, object] | None = None,
    pads: Mapping[str, object] | None = None,
    truncate: Sequence[str] = (),
    outputs: Mapping[str, str] | Sequence[str] | None = None,
    batch_rows: int | None = None,
    model_digest: str | None = None,
    op_libraries: Sequence[str] = (),
    batch_timeout_s: float | None = None,
) -> LoadedModel:
    """Load a model of any format, call it once to see that it answers, and return it.

    Args:
      path: a SavedModel directory, a `.keras` file or a `.tflite` file.
      signature: the key of the signature to call.
      columns: by input tensor, the column that feeds it where their names differ: `column`,
        `parent.child` for a field of a struct, or a conversion such as `float32(column)`.
      fills: by input tensor, the value that stands in for nulls. Without one a null is an error of
        its row.
      pads: by input tensor, the value that lists that are too short are padded with, to the fixed
        size or to the longest of a call.
      truncate: input tensors whose lists are cut off when they are too long.
      outputs: the output tensors to keep, or a column name for each; `binary(column)` keeps the
        bytes of a string output. By default all, named as they are.
      batch_rows: rows per model call. By default a good size is found while scoring.
      model_digest: `sha256:…` of the model's files; any other model is refused before it runs.
      op_libraries: shared libraries with custom ops, loaded before the model.
      batch_timeout_s: seconds that 65,536 rows may take in the model, which then runs in a process
        of its own; rows that hang or crash it become dead letters. By default it runs in this one.

    Raises:
      FileNotFoundError: there is no model; says what is there instead.
      ModelError: a ValueError: another digest, no such signature, or a model that does not answer.
      ValueError: an argument names no input or output, or holds a value of another dtype.
    """
    wanted = WantedModel.of(
        path,
        signature=signature,
        columns=columns,
        fills=fills,
        pads=pads,
        truncate=truncate,
        outputs=outputs,
        batch_rows=batch_rows,
        digest=model_digest,
        op_libraries=tuple(op_libraries),
        batch_timeout_s=batch_timeout_s,
    )
    return LoadedModel(wanted)


def _cut(rows: pa.Table | pa.RecordBatch) -> list[pa.RecordBatch]:
    """Return rows as record batches that are worth a call each; one without rows for none."""
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    chunks = max((column.num_chunks for column in table.columns), default=0)
    if chunks > 1 and table.num_rows < chunks * _MIN_CHUNK_ROWS:
        table = table.combine_chunks()
    batches = table.to_batches(_MAX_BATCH_ROWS)
    return batches or [pa.RecordBatch.from_pylist([], schema=table.schema)]


def _to_letters(rows: pa.Table | pa.RecordBatch, dead: Sequence[DeadRows]) -> pa.Table:
    found = sorted(
        (row, group.step, in_python(reason))
        for group in dead
        for row, reason in zip(group.rows, group.reasons, strict=True)
    )
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    at, steps, reasons = zip(*found, strict=True) if found else ((), (), ())
    letters = table.take(pa.array(np.array(at, np.int64)))
    why = {"_step": pa.array(steps, pa.string()), "_reason": pa.array(reasons, pa.string())}
    for name, column in {**why, "_row": pa.array(at, pa.int64())}.items():
        letters = letters.append_column(name, column)
    return letters
