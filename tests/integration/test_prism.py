"""The same job on Prism, Beam's portable local runner: real gRPC, the same table."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.fakes import ROOT, assert_scored_whole, run_command, write_lake

pytestmark = pytest.mark.prism


@pytest.fixture(scope="module")
def prism():
    version = re.search(r"^BEAM_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    binary = cache / "scoreline" / f"prism-{version}" / "prism"
    if not binary.exists():
        if os.environ.get("CI"):
            pytest.fail(f"Prism is not built at {binary}: `make prism` needs Go")
        pytest.skip(f"Prism is not built at {binary}: run `make prism`, which needs Go")
    return binary


def test_prism_gives_the_same_rows(tmp_path, prism, model):
    lake = write_lake(tmp_path / "lake", days=3)
    ended = run_command(
        "pipelines.score_batch",
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
