"""Outcomes → files that the launcher reads, on every runner."""

from __future__ import annotations

import dataclasses

import apache_beam as beam

import scoreline.transforms.coders  # noqa: F401  registers how elements are encoded
from scoreline.lake.elements import Outcome
from scoreline.lake.table.outcomes import write_outcome


@dataclasses.dataclass(kw_only=True, eq=False)
class WriteOutcomes(beam.PTransform):
    """Write each Outcome to a file, which the launcher reads after the job."""

    output: str
    job_id: str

    def expand(self, outcomes: beam.PCollection[Outcome]) -> beam.PCollection[None]:
        """Write one small file per partition."""
        output, job_id = self.output, self.job_id
        return outcomes | "WriteOutcome" >> beam.Map(
            lambda outcome: write_outcome(output, job_id, outcome)
        ).with_output_types(type(None))
