"""Whether the workers of a load test share this machine with its sender."""

from __future__ import annotations

import pytest

from scoreline.pipelines.load_test.profile import Profile
from scoreline.pipelines.load_test.this_machine import is_here

SCALES = ("kubectl", "scale", "--replicas={workers}")


@pytest.mark.parametrize(
    ("argv", "scale_command", "expected"),
    [
        ((), (), True),
        ((), SCALES, False),
        (("--runner=flink", "--flink_master=127.0.0.1:8081"), SCALES, True),
        (("--runner=flink", "--flink_master=http://localhost:8081"), (), True),
        (("--runner=flink", "--flink_master", "[::1]:8081"), (), True),
        (("--runner=flink", "--flink_master=jobmanager:8081"), (), False),
    ],
)
def test_a_cluster_is_here_if_it_is_reached_by_the_loopback(argv, scale_command, expected):
    profile = Profile(mode="stream", argv=argv, scale_command=scale_command)
    assert is_here(profile) is expected
