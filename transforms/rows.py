"""Rows → rows with the outputs of a model, scored in record batches internally."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.utils.windowed_value import WindowedValue

from scoreline.models.errors import ImpureModel
from scoreline.models.fit import DIGEST_COLUMN
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from scoreline.transforms import metrics
from scoreline.transforms.isolate import EveryRowFails
from scoreline.transforms.row_batches import RowReader, estimate_bytes, fields_of, to_python
from scoreline.transforms.score import DEAD_LETTERS, Scorer, in_own_words
from scoreline.transforms.scoring import ScoreSpec, Serving
from scoreline.transforms.wanted import WantedModel, check_schema, in_python, name_list

# A buffer is scored at this number of rows, at this estimated size, or at the end of the bundle.
MAX_ROWS = 8_192
MAX_BYTES = 64 << 20
# Only one row in this many is measured, which takes as long as all other work on a row.
_SIZED_EVERY = 64
_GLOBAL_WINDOW = GlobalWindow()


class _ScoreRowsDoFn(beam.DoFn):
    def __init__(self, spec: ScoreSpec, keep: tuple[str, ...] | None) -> None:
        self._spec = spec
        self._keep = keep
        self._max_rows = max(spec.model.batch_rows or 0, MAX_ROWS)

    def setup(self) -> None:
        self._reader = RowReader(self._spec.inputs)
        spec = dataclasses.replace(self._spec, inputs=tuple(self._reader.inputs))
        self._scorer = Scorer(Serving(self._spec.model.load(), spec))
        self._checked = pa.schema([])

    def start_bundle(self) -> None:
        self._empty()

    def _empty(self) -> None:
        self._rows: list[Any] = []
        self._times: list[Any] = []
        self._windows: list[Any] = []
        self._limit = self._max_rows

    def process(
        self,
        row: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterable[Any]:
        self._windows.append(window)
        return self._add(row, timestamp)

    def _add(self, row: Any, timestamp: Any) -> Iterable[Any]:
        rows = self._rows
        if not len(rows) % _SIZED_EVERY:
            fitting = MAX_BYTES // max(estimate_bytes(row), 1)
            self._limit = max(1, min(self._limit, fitting))
        rows.append(row)
        self._times.append(timestamp)
        if len(rows) < self._limit:
            return ()
        return self._score()

    def finish_bundle(self) -> Iterator[Any]:
        if self._rows:
            yield from self._score()
        self._scorer.flush()

    def _score(self) -> Iterator[Any]:
        """Score the buffer, and return each row with its own timestamp and window."""
        rows, times, windows = self._rows, self._times, self._windows
        self._empty()
        scored, why = self._call(rows)
        if not why:
            for row, time, window in zip(
                add_fields(rows, scored, self._spec.digest, self._keep), times, windows, strict=True
            ):
                yield WindowedValue(row, time, (window,))
            return
        alive = [row for at, row in enumerate(rows) if at not in why]
        made = add_fields(alive, scored, self._spec.digest, self._keep)
        for at, (time, window) in enumerate(zip(times, windows, strict=True)):
            if at not in why:
                yield WindowedValue(next(made), time, (window,))
                continue
            letter = WindowedValue(to_letter(rows[at], *why[at]), time, (window,))
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, letter)

    def _call(self, rows: Sequence[Any]) -> tuple[pa.RecordBatch, dict[int, tuple[str, str]]]:
        """Return the outputs of scored rows, and the reasons of the others by position."""
        with self._scorer.metrics.timed(metrics.FEATURES_MS):
            batch, misfits = self._reader.read(rows)
        why = {at: ("ReadRows", reason) for at, reason in misfits.items()}
        places: Sequence[int] = range(len(rows))
        if misfits:
            places = [at for at in places if at not in misfits]
            batch = batch.take(pa.array(places, pa.int64()))
        if batch.schema != self._checked:
            model, spec = self._scorer.serving
            check_schema(model.signature, spec, batch.schema)
            self._checked = batch.schema
        try:
            scored = self._scorer.score(batch)
        except EveryRowFails as e:
            scored = self._scorer.fail(batch, e)
        except ImpureModel as e:
            raise in_own_words(e) from e
        for group in scored.dead:
            for row, reason in zip(group.rows, group.reasons, strict=True):
                why[places[row]] = (group.step, in_python(reason))
        self._scorer.count(scored.batch.num_rows, len(why))
        return scored.batch, why

    def teardown(self) -> None:
        self._scorer.serving.servable.close()


def add_fields(
    rows: Sequence[Any], scored: pa.RecordBatch, digest: str, keep: Sequence[str] | None = None
) -> Iterator[Any]:
    """Yield rows with their results, in order.

    Raises:
      ValueError: a row has a field of the same name already.
    """
    names = [name for name in scored.schema.names if name != DIGEST_COLUMN]
    columns = [to_python(scored.column(name)) for name in names]
    given = list(keep) if keep is not None else fields_of(rows[0]) if rows else []
    taken = [name for name in (*names, DIGEST_COLUMN) if name in given]
    if taken:
        raise ValueError(
            f"expected rows without a field '{taken[0]}', which is the name of an output. Rename "
            "the output with outputs={…}, or leave the field out with keep"
        )
    names.append(DIGEST_COLUMN)
    columns.append([digest] * len(rows))
    made = (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
    if keep is None and set(map(type, rows)) == {dict}:
        for row, more in zip(rows, made, strict=True):
            yield {**row, **more}
        return
    for row, more in zip(rows, made, strict=True):
        fields = {**_fields_of(row, keep), **more}
        yield fields if isinstance(row, dict) else _to_row(fields)


def _fields_of(row: Any, keep: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a row's fields; the caller must not change them."""
    if isinstance(row, dict):
        fields = row
    else:
        fields = row._asdict() if isinstance(row, tuple) else vars(row)  # type: ignore[attr-defined]
    return fields if keep is None else {name: fields[name] for name in keep}


def _to_row(fields: dict[str, Any]) -> beam.Row:
    """Return a Beam Row without the copy of fields that its constructor makes."""
    row = beam.Row()
    row.__dict__ = fields
    return row


def to_letter(row: Any, step: str, reason: str) -> Any:
    """Return a dead row, with the failed step and the reason."""
    fields = {**_fields_of(row), "_step": step, "_reason": reason}
    return fields if isinstance(row, dict) else _to_row(fields)


class _ScoreGlobalRowsDoFn(_ScoreRowsDoFn):
    """The same for the global window, because Beam's lookup of a row's window is slow."""

    def process(self, row: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterable[Any]:  # type: ignore[override]
        return self._add(row, timestamp)

    def _score(self) -> Iterator[Any]:
        self._windows = [_GLOBAL_WINDOW] * len(self._rows)
        return super()._score()


class ScoreRows(beam.PTransform):
    """Score single rows, with record batches internally.

    Takes dicts, Beam Rows, NamedTuples or other objects with fields. Returns two collections:

    - `scores`: each row with the outputs of the model and `model_digest`; a dict for a dict,
      otherwise a Beam Row.
    - `dead_letters`: the rows that could not be scored, with all their fields, `_step` (what
      failed) and `_reason` (why).

    Rows keep their timestamps and windows, and the rows of a bundle keep their order.

    Rows are buffered up to 8,192 rows, about 64 MiB, or the end of their bundle. That adds no
    latency, because the runner releases results only at the end of a bundle.

    The model is loaded when the pipeline is built, so a wrong option, path or digest is reported
    before the job starts. Each worker process loads it once more.

    Args:
      model: path of the model, for the launcher and the workers.
      keep: the fields of a row to return; by default all.
      signature, columns, fills, pads, pad_lengths, truncate, outputs, batch_rows, model_digest,
        op_libraries, batch_timeout_s, allow_impure: see `scoreline.load`. A column is a field
        of a row. A Python float becomes the nearest float of the input's dtype; other values must
        fit exactly.

    Raises:
      FileNotFoundError, ValueError: see `scoreline.load`; raised when the step is applied.
    """

    def __init__(
        self,
        *,
        model: str | os.PathLike[str],
        keep: Sequence[str] | None = None,
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
    ) -> None:
        """Store the arguments; the model is not loaded yet."""
        super().__init__()
        self._wanted = WantedModel.of(
            model,
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
        self._keep = None if keep is None else name_list("keep", keep)

    def expand(self, rows: beam.PCollection) -> beam.pvalue.DoOutputsTuple:
        """Load the model, fit it to the rows, and score them in one step."""
        signature, spec = self._wanted.fit_here(())
        reader = RowReader(spec.inputs)
        declared = dataclasses.replace(spec, inputs=tuple(reader.inputs))
        check_schema(signature, declared, reader.declared_schema())
        is_global = isinstance(rows.windowing.windowfn, GlobalWindows)
        step = _ScoreGlobalRowsDoFn if is_global else _ScoreRowsDoFn
        scored = beam.ParDo(step(spec, self._keep)).with_output_types(
            _type_of_scores(rows.element_type, signature, spec, self._keep),
            **{DEAD_LETTERS: Any},
        )
        return rows | "ScoreRows" >> scored.with_outputs(DEAD_LETTERS, main="scores")


def _type_of_scores(
    element: Any, signature: Signature, spec: ScoreSpec, keep: tuple[str, ...] | None
) -> Any:
    """Return the type of scored rows, with a schema if the input rows have one."""
    known = RowTypeConstraint.from_user_type(element)
    if known is None:
        return Any
    tensors = {tensor.name: tensor for tensor in signature.outputs}
    fields: list[tuple[str, Any]] = [f for f in known._fields if keep is None or f[0] in keep]
    outputs = [(column, _type_of(tensors[name], kind)) for name, column, kind in spec.outputs]
    return RowTypeConstraint.from_fields([*fields, *outputs, (DIGEST_COLUMN, str)])


def _type_of(tensor: TensorSpec, conversion: str) -> Any:
    kind: Any = float
    if tensor.dtype == "string":
        kind = bytes if conversion == "binary" else str
    elif "float" not in tensor.dtype:
        kind = bool if tensor.dtype == "bool" else int
    for _ in () if tensor.is_one_value else tensor.row_shape:
        kind = Sequence[kind]
    return kind
