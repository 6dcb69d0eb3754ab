"""Beam's Prism: a binary that runs the job, with its workers in this process."""

from __future__ import annotations

from collections.abc import Collection

import apache_beam as beam
from apache_beam.options.pipeline_options import PortableOptions
from apache_beam.runners.runner import PipelineRunner, create_runner

from scoreline.pipelines.runners.any_runner import (
    AnyRunner,
    find_flink_flags,
    find_unknown_flags,
)
from scoreline.pipelines.runners.workarounds import let_prism_wait


class Prism(AnyRunner):
    """Runs a job on Prism."""

    @property
    def shares_process(self) -> bool:
        """Whether the workers are threads of this process, Prism's default."""
        environment = self.options.view_as(PortableOptions).environment_type
        return (environment or "LOOPBACK") == "LOOPBACK"

    def find_problems(self, own_flags: Collection[str] = ()) -> list[str]:
        """Check the flags, and that the binary is named."""
        problems = [*find_unknown_flags(self._flags, own_flags), *find_flink_flags(self._flags)]
        if not self.options.get_all_options().get("prism_location"):
            problems.append(
                "--runner=PrismRunner: expected --prism_location=PATH of the Prism binary. Without "
                "it Beam downloads one. Build it with `make prism`"
            )
        return problems

    def make_beam_runner(self, workers: int) -> PipelineRunner:
        """Return Beam's PrismRunner."""
        return create_runner("PrismRunner")

    def end_stream(self, last: beam.PCollection[None]) -> None:
        """Add a step after the last one, which has no output; this saves a core."""
        let_prism_wait(last)
