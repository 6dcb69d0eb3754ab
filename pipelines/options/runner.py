"""Which runner an option line names."""

from __future__ import annotations

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

_FLINK = ("flink", "flinkrunner")
_IN_PROCESS = ("FnApiRunner", "DirectRunner")


def is_flink(name: str) -> bool:
    """Return whether a runner's name means Flink, in any case."""
    return name.rsplit(".", 1)[-1].lower() in _FLINK


def runner_name(options: PipelineOptions) -> str:
    """Return the runner's class name. The default is Beam's FnApiRunner in this process.

    `DirectRunner` means the same: Beam's own would try to fetch a Prism binary from the web first.
    """
    name = (options.view_as(StandardOptions).runner or "FnApiRunner").rsplit(".", 1)[-1]
    if is_flink(name):
        return "FlinkRunner"
    return "FnApiRunner" if name in _IN_PROCESS else name
