"""The versions that were tried together on Flink, side by side.

Beam's Python SDK comes from constraints.txt; the Flink runner is Beam's Java code, of another
release where the newest cannot be had. tests/integration/test_flink.py runs this very set, and
tests/test_packaging.py holds the other places where a version stands equal to it.
"""

BEAM_PYTHON_VERSION = "2.77.0"
BEAM_JAVA_VERSION = "2.70.0"
FLINK_VERSION = "1.19.3"
# What Beam calls it: its runner is built for one minor version.
FLINK_MINOR = FLINK_VERSION.rpartition(".")[0]
