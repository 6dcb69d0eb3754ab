"""Fixture: an empty table of scores."""

from __future__ import annotations

import pytest

from scoreline.transforms.kafka.append import (
    prepare_table,
)
from tests.transforms.kafka.appending import make_spec


@pytest.fixture
def spec(tmp_path):
    spec = make_spec(tmp_path / "scores")
    assert prepare_table(spec, range(4)) == {}
    return spec
