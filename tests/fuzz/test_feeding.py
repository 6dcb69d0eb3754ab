"""Columns that are fed to TensorFlow's C API come back the same, whatever they are.

A wrong pointer would end this process. `SCORELINE_FUZZ_SECONDS=3600` continues with other columns
for half of that time (`make fuzz`).
"""

from __future__ import annotations

import pytest

from tests.fuzz.feeding import Feeder
from tests.fuzz.rounds import SECONDS, rounds

_COLUMNS = 200


@pytest.mark.timeout(180 + 2 * SECONDS)
def test_columns_of_every_type_come_back_the_same():
    feeder = Feeder()
    for number, chance in enumerate(rounds("feeding", _COLUMNS, share=0.5)):
        problem = feeder.feed(chance)
        assert not problem, f"column {number}: {problem}"
