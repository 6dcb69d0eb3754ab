"""Beam's FnApiRunner in this process: the default, and also the meaning of `DirectRunner`."""

from __future__ import annotations

from collections.abc import Collection

from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.runner import PipelineRunner

from scoreline.pipelines.runners.any_runner import (
    AnyRunner,
    find_flink_flags,
    find_unknown_flags,
)
from scoreline.pipelines.runners.workarounds import LeanWorkersRunner, add_up_counters_at_once


class Local(AnyRunner):
    """Runs a job in this process.

    Workers are threads (decision 0002). TensorFlow calls, and reads and writes of Parquet, release
    Python's lock. The model is loaded once, and no other process loads TensorFlow.
    `--direct_running_mode=multi_processing` overrides this.
    """

    @property
    def shares_process(self) -> bool:
        """Whether the workers are threads of this process."""
        return self.options.view_as(DirectOptions).direct_running_mode != "multi_processing"

    def find_problems(self, own_flags: Collection[str] = ()) -> list[str]:
        """Check the flags."""
        return [*find_unknown_flags(self._flags, own_flags), *find_flink_flags(self._flags)]

    def find_stream_problems(self, *, readers: int, until_end: bool) -> list[str]:
        """Check that there is one reader."""
        if readers == 1:
            return []
        return [
            f"--readers: expected 1 on the local runner, got {readers}. It ends the bundles of all "
            "readers together, so an idle reader would block the others"
        ]

    def make_beam_runner(self, workers: int) -> PipelineRunner:
        """Return the runner, with one thread per worker."""
        add_up_counters_at_once()
        direct = self.options.view_as(DirectOptions)
        direct.direct_num_workers = workers
        if direct.direct_running_mode == "in_memory" and workers > 1:
            direct.direct_running_mode = "multi_threading"
        return LeanWorkersRunner()
