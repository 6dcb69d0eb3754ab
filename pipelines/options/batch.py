"""The options of a batch scoring job, and the checked settings they become."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from scoreline.lake.files.data_file import MAX_BATCH_BYTES, MAX_VALUE_BYTES, Limits
from scoreline.lake.files.partitions import PartitionSpec
from scoreline.models.conversions import CONVERSIONS, RAGGED, parse_conversion
from scoreline.models.fit import FitOptions
from scoreline.pipelines.options.problems import BadOptions
from scoreline.pipelines.options.reader import OptionReader
from scoreline.transforms.scoring import DIGEST_COLUMN

REPROCESS = ("none", "failed", "stale", "all")


class BatchScoringOptions(PipelineOptions):
    """The flags of `scoreline batch`. Values are checked by the settings."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        cls.add_to(parser)

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Declare the flags, in groups."""
        what = parser.add_argument_group("what is scored")
        what.add_argument(
            "--input",
            metavar="PATH",
            help="root of the dataset: PATH/<column>=<value>/… with files *.parquet, "
            "*.tfrecord[.gz], *.csv[.gz] or *.jsonl[.gz], all of one format; or a Delta table",
        )
        what.add_argument(
            "--schema",
            metavar="FILE",
            help="types of the columns: schema.pbtxt of tensorflow-metadata for TFRecord, JSON as "
            '{"id": "int64"} for CSV and JSON Lines (default: inferred from the first files)',
        )
        what.add_argument(
            "--allow_missing",
            metavar="C=VALUE",
            action="append",
            help="value of column C for files that lack it; repeatable. Else that is an error",
        )
        what.add_argument(
            "--partitions",
            metavar="SPEC",
            action="append",
            help="date=2013-11-01, date=2013-11-01..2013-12-31 or region=eu/date=2013-11-01; "
            "repeatable; default: all. Partitions that are committed already are not scored again",
        )
        what.add_argument(
            "--last",
            metavar="N",
            help="only the N newest partitions: a job that runs every night catches up by itself",
        )
        what.add_argument(
            "--reprocess",
            choices=REPROCESS,
            default="none",
            help="none: score what is not committed (default). failed: only what failed last time. "
            "stale: also what is committed, but whose input changed since. all: everything again",
        )
        what.add_argument(
            "--keys",
            metavar="C,…",
            help="columns that identify a row, copied to the output; not partition columns alone",
        )
        what.add_argument("--keep", metavar="C,…", help="further columns to copy to the output")

        model = parser.add_argument_group("with which model")
        model.add_argument(
            "--model", metavar="PATH", help="SavedModel directory, .keras file or .tflite file"
        )
        model.add_argument(
            "--signature",
            metavar="NAME",
            default="serving_default",
            help="signature to call (default: serving_default)",
        )
        model.add_argument(
            "--columns",
            metavar="T=C,…",
            action="append",
            help="input tensor T is column C, where their names differ; parent.child is a field of "
            f"a struct, and T=f(C) converts it, where f is one of {', '.join(CONVERSIONS)}; "
            f"{' and '.join(RAGGED)} make the components of a ragged tensor",
        )
        model.add_argument(
            "--fill",
            metavar="T=VALUE",
            action="append",
            help="value for nulls of input T; repeatable. Without it a null is an error of its row",
        )
        model.add_argument(
            "--pad",
            metavar="T=VALUE",
            action="append",
            help="pad lists of input T that are too short, to its fixed size or to the longest of "
            "a call; repeatable",
        )
        model.add_argument(
            "--truncate",
            metavar="T,…",
            help="cut off lists of input T that are too long. Without it they are errors of rows",
        )
        model.add_argument(
            "--outputs",
            metavar="T[=C],…",
            action="append",
            help="output tensors to store, and their columns (default: all, named as they are); "
            "T=binary(C) stores the bytes of a string output, which need not be text",
        )
        model.add_argument(
            "--load_op_library",
            metavar="PATH",
            action="append",
            help="shared library with custom ops, loaded before the model; repeatable",
        )
        model.add_argument(
            "--model_digest", metavar="sha256:…", help="refuse any model with another digest"
        )

        where = parser.add_argument_group("where scores go")
        where.add_argument(
            "--output", metavar="PATH", help="Delta table, partitioned like the input"
        )
        where.add_argument(
            "--forbid",
            metavar="nan,inf",
            help="numbers that no output may be: a row with one is a dead letter",
        )
        where.add_argument(
            "--range",
            metavar="T=FROM..TO",
            action="append",
            help="numbers that output T may be, as score=0..1; a row with another, or with NaN, is "
            "a dead letter; repeatable",
        )
        where.add_argument(
            "--max_dead_letter_ratio",
            metavar="R",
            default="0.01",
            help="publish no partition with a larger share of rows that failed (default: 0.01)",
        )

        how = parser.add_argument_group("how it runs")
        how.add_argument(
            "--batch_rows",
            metavar="auto|N",
            default="auto",
            help="rows per model call (default: auto, found while scoring)",
        )
        how.add_argument(
            "--max_value_bytes",
            metavar="N",
            default=str(MAX_VALUE_BYTES),
            help="most bytes that one value, line or record may decode to; a file with a larger "
            "one fails its partition (default: 64 MiB)",
        )
        how.add_argument(
            "--max_batch_bytes",
            metavar="N",
            default=str(MAX_BATCH_BYTES),
            help="most bytes that a record batch may decode to: large rows make smaller batches "
            "(default: 256 MiB)",
        )
        how.add_argument(
            "--batch_timeout_s",
            metavar="S",
            help="most seconds a record batch may take in the model, which then runs in a process "
            "of its own for each worker: rows that hang or crash it become dead letters",
        )
        how.add_argument(
            "--workers",
            metavar="N",
            default=None,
            help="parallel workers of the local runners (default: one per processor)",
        )
        how.add_argument(
            "--check",
            action="store_true",
            help="do everything up to the first row, print the plan, score nothing",
        )


def make_parser(
    usage: str, doc: str | None, *families: type[PipelineOptions]
) -> argparse.ArgumentParser:
    """Return a parser of these flags, described by the part of a docstring before its example.

    The flags of further families stand before them.
    """
    parser = argparse.ArgumentParser(
        usage=usage,
        description=(doc or "").partition("\n\n    ")[0],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for family in families:
        family._add_argparse_args(parser)  # type: ignore[arg-type]
    BatchScoringOptions.add_to(parser)
    return parser


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchScoringSettings:
    """Checked settings of a batch scoring job; fields are named and explained as the options.

    Attributes:
      calls_per_process: how many of the workers share a process, where that is not all of them.
    """

    input: str
    output: str
    model: str
    signature: str = "serving_default"
    keys: tuple[str, ...]
    keep: tuple[str, ...] = ()
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    fills: dict[str, str] = dataclasses.field(default_factory=dict)
    pads: dict[str, str] = dataclasses.field(default_factory=dict)
    truncate: tuple[str, ...] = ()
    outputs: dict[str, str] | None = None
    op_libraries: tuple[str, ...] = ()
    partitions: tuple[PartitionSpec, ...] = ()
    schema: str | None = None
    allow_missing: dict[str, str] = dataclasses.field(default_factory=dict)
    model_digest: str | None = None
    last: int | None = None
    reprocess: str = "none"
    forbid: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    max_dead_letter_ratio: float = 0.01
    batch_rows: int | None = None
    max_value_bytes: int = MAX_VALUE_BYTES
    max_batch_bytes: int = MAX_BATCH_BYTES
    batch_timeout_s: float | None = None
    workers: int = 1
    calls_per_process: int | None = None
    check: bool = False

    @classmethod
    def from_options(
        cls,
        options: PipelineOptions,
        problems: Sequence[str] = (),
        needs: Sequence[str] = ("--input", "--output", "--model", "--keys"),
    ) -> BatchScoringSettings:
        """Parse and check options.

        Args:
          options: the whole command line.
          problems: what is known to be wrong with it already.
          needs: the flags that must be given.

        Raises:
          BadOptions: some are missing or wrong; lists all of them.
        """
        given = options.view_as(BatchScoringOptions)
        read = OptionReader(problems, needs)
        settings = cls(
            input=read.place("--input", given.input),
            output=read.place("--output", given.output),
            model=read.local("--model", read.required("--model", given.model)),
            signature=given.signature,
            keys=read.names("--keys", read.required("--keys", given.keys)),
            keep=read.names("--keep", given.keep or ""),
            columns=read.pairs("--columns", given.columns, "T=C"),
            fills=read.values("--fill", given.fill),
            pads=read.values("--pad", given.pad),
            truncate=read.names("--truncate", given.truncate or ""),
            outputs=read.outputs(given.outputs),
            op_libraries=read.files("--load_op_library", given.load_op_library),
            partitions=read.specs(given.partitions),
            schema=next(iter(read.files("--schema", [given.schema] if given.schema else [])), None),
            allow_missing=read.values("--allow_missing", given.allow_missing, "C=VALUE"),
            model_digest=read.digest(given.model_digest),
            last=None if given.last is None else read.positive("--last", given.last, ""),
            reprocess=given.reprocess,
            forbid=read.forbidden(given.forbid or ""),
            ranges=read.ranges(given.range),
            max_dead_letter_ratio=read.ratio(given.max_dead_letter_ratio),
            batch_rows=(
                None
                if given.batch_rows == "auto"
                else read.positive("--batch_rows", given.batch_rows, "auto or ")
            ),
            max_value_bytes=read.positive("--max_value_bytes", given.max_value_bytes, ""),
            max_batch_bytes=read.positive("--max_batch_bytes", given.max_batch_bytes, ""),
            batch_timeout_s=read.seconds("--batch_timeout_s", given.batch_timeout_s),
            workers=(
                available_cpus()
                if given.workers is None
                else read.positive("--workers", given.workers, "")
            ),
            check=given.check,
        )
        _check_conversions(settings, read.problems)
        _check_limits(settings, read.problems)
        _check_collisions(settings, read.problems)
        if read.problems:
            raise BadOptions(read.problems)
        return settings

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns copied from the input: keys, then kept columns."""
        return (*self.keys, *self.keep)

    @property
    def limits(self) -> Limits:
        """What may be decoded at once."""
        return Limits(self.max_value_bytes, self.max_batch_bytes)

    @property
    def concurrent_calls(self) -> int:
        """How many calls of the model a process makes at once."""
        return self.calls_per_process or self.workers

    @property
    def fit_options(self) -> FitOptions:
        """What is asked for about inputs and outputs."""
        return FitOptions(
            columns=self.columns,
            fills=self.fills,
            pads=self.pads,
            truncate=self.truncate,
            outputs=self.outputs,
        )

    @property
    def ragged(self) -> tuple[tuple[str, str], ...]:
        """The inputs that are components of ragged tensors, and which."""
        asked = ((name, parse_conversion(text)[0]) for name, text in sorted(self.columns.items()))
        return tuple((name, conversion) for name, conversion in asked if conversion in RAGGED)

    def output_column(self, name: str) -> tuple[str, str]:
        """Return the column of an output, and `binary` when its bytes are stored, else ""."""
        column = (self.outputs or {}).get(name, name)
        if column.startswith("binary(") and column.endswith(")"):
            return column.removeprefix("binary(")[:-1], "binary"
        return column, ""


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_conversions(settings: BatchScoringSettings, problems: list[str]) -> None:
    """Check the conversions that `--columns` asks for."""
    for text in settings.columns.values():
        try:
            parse_conversion(text)
        except ValueError as e:
            problems.append(f"--columns: {e}")


def _check_limits(settings: BatchScoringSettings, problems: list[str]) -> None:
    """Note it when a value may be larger than the batch that holds it."""
    if settings.max_value_bytes > settings.max_batch_bytes:
        problems.append(
            f"--max_value_bytes: expected at most --max_batch_bytes, which is "
            f"{settings.max_batch_bytes}, got {settings.max_value_bytes}"
        )


def _check_collisions(settings: BatchScoringSettings, problems: list[str]) -> None:
    """Check that no two output columns have one name."""
    columns = [settings.output_column(name)[0] for name in settings.outputs or ()]
    names = [*settings.carried, *columns, DIGEST_COLUMN]
    for name in dict.fromkeys(n for n in names if names.count(n) > 1):
        problems.append(
            f"output column '{name}' comes from more than one of --keys, --keep, --outputs and "
            f"{DIGEST_COLUMN}. Rename an output with --outputs T=COLUMN, or name it once"
        )
