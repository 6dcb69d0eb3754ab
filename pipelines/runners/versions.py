"""The versions of Beam and Flink that are tested together.

constraints.txt pins Beam's Python SDK. The Flink runner is Beam's Java code, of an older release if
the newest is not available. tests/integration/test_flink.py runs exactly this set.
tests/test_packaging.py checks that every other place names the same versions.
"""

BEAM_PYTHON_VERSION = "2.77.0"
BEAM_JAVA_VERSION = "2.70.0"
FLINK_VERSION = "1.19.3"
# Beam's name for a version: each runner is built for one minor version of Flink.
FLINK_MINOR = FLINK_VERSION.rpartition(".")[0]
