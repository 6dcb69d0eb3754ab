"""Names of jobs: input, model, and a unique part."""

from __future__ import annotations

from collections.abc import Sequence

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

_DIGITS_SHOWN = 12


def name_batch(options: PipelineOptions, partitions: Sequence[str], digest: str, run: str) -> str:
    """Set and return the name of a batch job: its partitions and model, or `--job_name`, and run.

    Args:
      options: Beam's options, whose job name is set.
      partitions: paths of the partitions, in order.
      digest: digest of the model.
      run: unique hex digits of the run.
    """
    first, last = partitions[0], partitions[-1]
    what = first if first == last else f"{first}..{last.rpartition('=')[2]}"
    title = _given(options) or f"scoreline {what} {_model(digest)}"
    return _set(options, f"{title} {run[:8]}")


def name_stream(options: PipelineOptions, topic: str, group: str, digest: str, run: str) -> str:
    """Set and return the name of a stream: its topic, consumer group, model and run."""
    return _set(options, f"{stream_prefix(options, topic, group)}{_model(digest)} {run[:8]}")


def stream_prefix(options: PipelineOptions, topic: str, group: str) -> str:
    """Return the prefix of the names of all streams of a consumer group."""
    return f"{_given(options) or 'scoreline'} {topic} as {group} "


def _given(options: PipelineOptions) -> str:
    return options.view_as(GoogleCloudOptions).job_name or ""


def _set(options: PipelineOptions, name: str) -> str:
    options.view_as(GoogleCloudOptions).job_name = name
    return name


def _model(digest: str) -> str:
    return f"model {digest.partition(':')[2][:_DIGITS_SHOWN]}"
