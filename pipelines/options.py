"""The flags of a batch scoring job, declared once, in groups."""

from __future__ import annotations

import argparse

from apache_beam.options.pipeline_options import PipelineOptions

from models.conversions import CONVERSIONS, RAGGED
from transforms.io.files import MOST_BATCH_BYTES, MOST_VALUE_BYTES

REPROCESS = ("none", "failed", "stale", "all")


class BatchScoringOptions(PipelineOptions):
    """The flags of `python -m pipelines.score_batch`. Values are checked by the settings."""

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
            default=str(MOST_VALUE_BYTES),
            help="most bytes that one value, line or record may decode to; a file with a larger "
            "one fails its partition (default: 64 MiB)",
        )
        how.add_argument(
            "--max_batch_bytes",
            metavar="N",
            default=str(MOST_BATCH_BYTES),
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
