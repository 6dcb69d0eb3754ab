"""The names of the options of Beam's Java runner for Flink that its Python SDK does not declare.

They are passed on unchanged. The list makes it possible to refuse misspelled options:
docs/decisions/0018-flags-of-beams-java-runner.md. A test compares it with the runner's jar.
"""

from __future__ import annotations

JAVA_OPTIONS = (
    "allow_non_restored_state",
    "auto_watermark_interval",
    "checkpoint_timeout_millis",
    "checkpointing_interval",
    "checkpointing_mode",
    "disable_metrics",
    "enable_stable_input_drain",
    "execution_mode_for_batch",
    "execution_retry_delay",
    "externalized_checkpoints_enabled",
    "fail_on_checkpointing_errors",
    "faster_copy",
    "finish_bundle_before_checkpointing",
    "flink_conf_dir",
    "force_slot_sharing_group",
    "force_unaligned_checkpoint_enabled",
    "latency_tracking_interval",
    "max_bundle_size",
    "max_bundle_time_mills",
    "min_pause_between_checkpoints",
    "num_concurrent_checkpoints",
    "number_of_execution_retries",
    "object_reuse",
    "operator_chaining",
    "report_checkpoint_duration",
    "retain_externalized_checkpoints_on_cancellation",
    "savepoint_path",
    "shutdown_sources_after_idle_ms",
    "state_backend",
    "state_backend_factory",
    "state_backend_storage_path",
    "unaligned_checkpoint_enabled",
)
