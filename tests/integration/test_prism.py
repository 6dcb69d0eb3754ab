"""The same job on Prism, Beam's portable local runner, gives the same table."""

from __future__ import annotations

import re

import pytest

from tests.fakes import assert_scored_whole, run_command, write_lake

pytestmark = pytest.mark.prism


def test_prism_gives_the_same_rows(tmp_path, prism, model):
    lake = write_lake(tmp_path / "lake", days=3)
    ended = run_command(
        "scoreline",
        "batch",
        f"--input={lake}",
        f"--model={model}",
        "--keys=id",
        f"--output={tmp_path / 'scores'}",
        "--runner=PrismRunner",
        f"--prism_location={prism}",
    )
    assert ended.code == 0, ended.err
    assert re.search(r"partitions +3 committed", ended.out)
    assert_scored_whole(lake, tmp_path / "scores")
