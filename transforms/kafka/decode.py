"""Raw records of a topic → record batches with the needed columns, and dead letters."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import DeadRows, RecordKey
from scoreline.lake.files.examples import RAW_COLUMN, ExamplesDecoder, decode_examples
from scoreline.lake.files.missing import Constant
from scoreline.lake.table.letters import to_dead_letters
from scoreline.transforms import metrics
from scoreline.transforms.alive import Alive
from scoreline.transforms.bundle_metrics import BundleMetrics
from scoreline.transforms.isolate import isolate
from scoreline.transforms.kafka.avro import AvroDecoder
from scoreline.transforms.kafka.first_values import FirstValues
from scoreline.transforms.kafka.json_values import BadRows, JsonDecoder
from scoreline.transforms.kafka.records import VALUE
from scoreline.transforms.kafka.registry import Registry
from scoreline.transforms.null_stages import RepeatedRows

FORMATS = ("json", "avro", "example")
_MAX_REASON_CHARS = 500
_ERRORS = (ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, RuntimeError)


class Decoder(Protocol):
    """The protocol of formats: decodes values of records into columns."""

    def decode(self, values: Sequence[bytes]) -> list[pa.Array]:
        """Return one column per field of the schema, with one row per value, in order.

        Raises:
          ValueError, TypeError, …: at least one value is invalid.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeSpec:
    """The format of values, and the columns to decode.

    Attributes:
      format: json, avro or example.
      schema: the columns and their types. `RAW_COLUMN` is the value itself.
      avro_schema: the writer schema of values, as JSON; with a registry, the reader schema.
      avro_schema_id: its id if values start with Confluent's header; otherwise None.
      registry: the registry of the schemas whose ids are in that header; None for no registry.
      required: the keys that each JSON object must have, also if they are null.
      missing: the values of other keys that a JSON object lacks.
      repeats_first: whether the columns of a worker's first batch are repeated for all others.
    """

    format: str
    schema: pa.Schema
    avro_schema: str = ""
    avro_schema_id: int | None = None
    registry: Registry | None = None
    required: tuple[str, ...] = ()
    missing: tuple[Constant, ...] = ()
    repeats_first: bool = False

    def make(self) -> Decoder:
        """Return the decoder of the format.

        Raises:
          ValueError: the Avro schema is invalid, or lacks a column.
        """
        if self.format == "avro":
            registry = self.registry.connect() if self.registry else None
            return AvroDecoder(self.schema, self.avro_schema, self.avro_schema_id, registry)
        if self.format == "example":
            return ExampleDecoder(self.schema)
        return JsonDecoder(self.schema, self.required, self.missing)


class ExampleDecoder:
    """Decodes one serialized tf.Example per value with tfx-bsl."""

    def __init__(self, schema: pa.Schema) -> None:
        """Set the features."""
        self._schema = schema
        self._features = [field for field in schema if field.name != RAW_COLUMN]
        self._decoder = ExamplesDecoder(self._features) if self._features else None

    def decode(self, values: Sequence[bytes]) -> list[pa.Array]:
        """Return the columns; see `Decoder`."""
        columns = {RAW_COLUMN: pa.array(values, pa.large_binary())}
        if self._decoder:
            columns |= decode_examples(self._decoder, self._features, values)
            self._check_features([columns[field.name] for field in self._features])
        return [columns[name] for name in self._schema.names]

    def _check_features(self, columns: Sequence[pa.Array]) -> None:
        """Raise BadRows if a record has no feature at all: it is another message."""
        if all(column.null_count for column in columns):
            empty = functools.reduce(pc.and_, map(pc.is_null, columns))
            rows = pc.indices_nonzero(empty).to_pylist()
            if rows:
                names = ", ".join(field.name for field in self._features)
                raise BadRows(dict.fromkeys(rows, f"has none of the features {names}"))


class Decoded(NamedTuple):
    """The result of decoding: rows that were decoded, and rows that failed."""

    batch: pa.RecordBatch
    dead: DeadRows | None


def decode_batch(raw: pa.RecordBatch, decoder: Decoder, schema: pa.Schema) -> Decoded:
    """Return the columns of a schema after those of the raw records.

    If the values of a batch fail to decode together, the batch is bisected until each bad value is
    isolated.
    """
    values = raw.column(VALUE).to_pylist()
    dead: dict[int, str] = {row: "has no value" for row, v in enumerate(values) if v is None}
    at = [row for row in range(len(values)) if row not in dead] if dead else range(len(values))
    present = [values[row] for row in at] if dead else values
    parts: list[list[pa.Array]] = []
    try:
        if present:
            parts = [decoder.decode(present)]
    except BadRows as e:
        dead |= {at[row]: _describe_text(reason) for row, reason in e.rows.items()}
        at = [row for row in at if row not in dead]
        if at:
            parts = [decoder.decode([values[row] for row in at])]
    except _ERRORS as e:
        isolated = isolate(
            lambda start, stop: decoder.decode(present[start:stop]),
            len(present),
            _describe,
            e,
            errors=_ERRORS,
            may_all_fail=True,
        )
        parts = [columns for _, _, columns in isolated.parts]
        dead |= {at[row]: reason for row, reason in isolated.dead.items()}
    columns = [
        parts[0][i]
        if len(parts) == 1
        else pa.concat_arrays([part[i] for part in parts])
        if parts
        else pa.array([], schema.field(i).type)
        for i in range(len(schema))
    ]
    letters = None
    if dead:
        alive = Alive(raw.num_rows)
        letters = alive.drop(dead, "Decode")
        raw = alive.take(raw)
    names = [*raw.schema.names, *schema.names]
    return Decoded(pa.RecordBatch.from_arrays([*raw.columns, *columns], names), letters)


def _describe(error: Exception) -> str:
    return _describe_text(str(error) or type(error).__name__)


def _describe_text(reason: str) -> str:
    return reason[:_MAX_REASON_CHARS]


class RepeatedDecode:
    """Decodes a first batch, and gives its columns to all others, without dead rows."""

    def __init__(self) -> None:
        """Have no columns yet."""
        self._rows: RepeatedRows | None = None

    def __call__(self, raw: pa.RecordBatch, decoder: Decoder, schema: pa.Schema) -> Decoded:
        """Return columns for each raw record; see `decode_batch`."""
        if self._rows is None:
            decoded = decode_batch(raw, decoder, schema)
            if decoded.batch.num_rows and schema.names:
                self._rows = RepeatedRows(decoded.batch.select(schema.names))
            return decoded
        columns = self._rows.take(raw.num_rows).columns
        names = [*raw.schema.names, *schema.names]
        return Decoded(pa.RecordBatch.from_arrays([*raw.columns, *columns], names), None)


class _DecodeDoFn(beam.DoFn):
    def __init__(self, spec: DecodeSpec) -> None:
        self._spec = spec

    def setup(self) -> None:
        self._decoder = self._spec.make()
        self._decode = RepeatedDecode() if self._spec.repeats_first else decode_batch
        self._metrics = BundleMetrics()
        self._first = FirstValues(self._spec.format)

    def process(
        self, element: tuple[RecordKey, pa.RecordBatch]
    ) -> Iterator[tuple[RecordKey, pa.RecordBatch]]:
        key, raw = element
        with self._metrics.timed(metrics.DECODE_MS):
            batch, dead = self._decode(raw, self._decoder, self._spec.schema)
        self._metrics.pass_rows(metrics.DECODE_MS, raw.num_rows)
        reasons = {} if dead is None else dict(zip(dead.rows, dead.reasons, strict=True))
        self._first.observe(batch.num_rows, reasons, raw)
        if dead is not None:
            self._metrics.count(metrics.ROWS_DEAD, len(dead.rows))
            yield key._replace(are_dead=True), to_dead_letters(raw, dead, "")
        if batch.num_rows:
            yield key, batch

    def finish_bundle(self) -> None:
        self._metrics.flush()


@dataclasses.dataclass(kw_only=True, eq=False)
class DecodeRecords(beam.PTransform):
    """Decode the values of raw records.

    Takes and returns (RecordKey, RecordBatch). Dead letters of a batch, if any, come first, with a
    key that marks them. Then come its other rows, with the columns of the schema after those of the
    raw record.
    """

    spec: DecodeSpec

    def expand(
        self, batches: beam.PCollection[tuple[RecordKey, pa.RecordBatch]]
    ) -> beam.PCollection[tuple[RecordKey, pa.RecordBatch]]:
        """Decode in one fused step."""
        return batches | "Decode" >> beam.ParDo(_DecodeDoFn(self.spec)).with_output_types(
            tuple[RecordKey, pa.RecordBatch]
        )
