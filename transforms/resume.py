"""Receipts of an earlier attempt → shards that need not be scored again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import apache_beam as beam

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import Receipt, Shard
from scoreline.lake.table.receipts import find_receipts, is_staged


class _ReuseDoFn(beam.DoFn):
    def __init__(self, output: str) -> None:
        self._output = output

    def process(
        self, element: tuple[Shard, list[Receipt]]
    ) -> Iterator[Receipt | beam.pvalue.TaggedOutput]:
        shard, receipts = element
        if all(is_staged(self._output, receipt) for receipt in receipts):
            yield from receipts
        else:
            yield beam.pvalue.TaggedOutput("shards", shard)


class _SkipDoFn(beam.DoFn):
    def __init__(self, output: str) -> None:
        self._output = output

    def process(self, shard: Shard) -> Iterator[Shard | beam.pvalue.TaggedOutput]:
        for receipts in find_receipts(self._output, [shard]).values():
            if all(is_staged(self._output, receipt) for receipt in receipts):
                for receipt in receipts:
                    yield beam.pvalue.TaggedOutput("receipts", receipt)
                return
        yield shard


@dataclasses.dataclass(kw_only=True, eq=False)
class SkipStaged(beam.PTransform):
    """Give the receipts of shards that were staged whole since the job was launched.

    For runners that restart a job by themselves, from its beginning: what an earlier attempt staged
    is not scored again. Gives `receipts`, and as `shards` all others.
    """

    output: str

    def expand(self, shards: beam.PCollection[Shard]) -> beam.pvalue.DoOutputsTuple:
        """Look for receipts where the shard would be read, just before."""
        return shards | "FindStaged" >> beam.ParDo(_SkipDoFn(self.output)).with_outputs(
            "receipts", main="shards"
        )


@dataclasses.dataclass(kw_only=True, eq=False)
class ReuseStaged(beam.PTransform):
    """Give the receipts of shards that an earlier run staged whole, after checking their files.

    Gives `receipts`, and as `shards` those whose files are gone or not what the receipts say.
    """

    output: str
    staged: Sequence[tuple[Shard, Sequence[Receipt]]]

    def expand(self, root: beam.pvalue.PBegin) -> beam.pvalue.DoOutputsTuple:
        """Check files on the workers: together they may be large."""
        return (
            root
            | "CreateStaged" >> beam.Create(list(self.staged), reshuffle=False)
            | "SpreadStaged" >> beam.Reshuffle()
            | "CheckStaged"
            >> beam.ParDo(_ReuseDoFn(self.output)).with_outputs("shards", main="receipts")
        )
