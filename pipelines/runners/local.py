"""Beam's FnApiRunner, in this process: the default, and what `DirectRunner` means too."""

from __future__ import annotations

from collections.abc import Collection

from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.runners.runner import PipelineRunner

from scoreline.pipelines.runners.any_runner import AnyRunner, find_unknown_flags
from scoreline.pipelines.runners.workarounds import add_up_counters_at_once


class Local(AnyRunner):
    """Runs a job in this process.

    Workers are threads (decision 0002): a TensorFlow call and the reading and writing of Parquet
    release Python's lock, the model is loaded once, and no further process has to import
    TensorFlow. `--direct_running_mode=multi_processing` overrides it.
    """

    @property
    def shares_process(self) -> bool:
        """Whether the workers are threads of this process."""
        return self.options.view_as(DirectOptions).direct_running_mode != "multi_processing"

    def find_problems(self, own_flags: Collection[str] = ()) -> list[str]:
        """Check the flags."""
        return find_unknown_flags(self._flags, own_flags)

    def find_stream_problems(self, *, readers: str, until_end: bool) -> list[str]:
        """Check that there is one reader."""
        if readers == "1":
            return []
        return [
            "--readers: the local runner ends bundles of all readers together, so that a silent "
            f"one would hold the others up; expected 1, got {readers}"
        ]

    def make_beam_runner(self, workers: int) -> PipelineRunner:
        """Return the runner, with threads for so many workers."""
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        add_up_counters_at_once()
        direct = self.options.view_as(DirectOptions)
        direct.direct_num_workers = workers
        if direct.direct_running_mode == "in_memory" and workers > 1:
            direct.direct_running_mode = "multi_threading"
        return FnApiRunner()
