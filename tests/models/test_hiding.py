"""Modules are hidden from libraries in processes of our own, and only until somebody needs them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from scoreline.models.hiding import after_import, hiding
from tests.fakes import ROOT


def run(code):
    """Run code in a process of its own, and return its output."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_hidden_module_looks_as_if_it_were_not_installed(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    before = list(sys.meta_path)
    with hiding("this"):
        assert importlib.util.find_spec("this") is None
        with pytest.raises(ModuleNotFoundError, match="No module named 'this'"):
            importlib.import_module("this")
        importlib.invalidate_caches()
    assert sys.meta_path == before
    assert importlib.util.find_spec("this") is not None


def test_finders_that_come_and_blocks_that_nest_are_kept_in_order(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    monkeypatch.setattr(sys, "meta_path", before := list(sys.meta_path))
    calls = []
    with hiding("this"):
        after_import("this", lambda: calls.append("this"))
        with hiding("antigravity"):
            assert importlib.util.find_spec("antigravity") is None
        assert importlib.util.find_spec("this") is None
    assert sys.meta_path[1:] == before
    assert calls == []


def test_an_action_follows_the_import_that_succeeds_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "watched_module.py"
    module.write_text("import missing_module")
    calls = []
    after_import("watched_module", lambda: calls.append(sys.modules["watched_module"].value))
    after_import("watched_module", lambda: calls.append(2))
    with pytest.raises(ModuleNotFoundError, match="missing_module"):
        importlib.import_module("watched_module")
    assert calls == []
    module.write_text("value = 'longer than before'")
    importlib.invalidate_caches()
    try:
        importlib.import_module("watched_module")
        importlib.reload(sys.modules["watched_module"])
    finally:
        sys.modules.pop("watched_module", None)
    assert sorted(map(str, calls)) == ["2", "longer than before"]


@pytest.mark.parametrize("first", ["", "import pyarrow;"])
def test_pandas_stays_out_until_it_is_imported(first):
    assert run(
        f"import sys; {first}"
        "from scoreline.models.hiding import keep_pandas_out\n"
        "keep_pandas_out()\n"
        "import pyarrow as pa\n"
        "pa.array([1.5]); print('pandas' in sys.modules)\n"
        "import pandas as pd\n"
        "print(pa.array(pd.Series([1.5, None])).null_count)\n"  # NaN is null in a Series only
        "print(pa.array([1.5, float('nan')]).null_count)\n"
    ) == ["False", "1", "0"]


def test_pyarrow_still_makes_data_frames():
    assert run(
        "import sys\n"
        "from scoreline.models.hiding import keep_pandas_out\n"
        "keep_pandas_out()\n"
        "import pyarrow as pa\n"
        "table = pa.table({'x': [1, 2]}); print('pandas' in sys.modules)\n"
        "print(len(table.to_pandas()), type(pa.array([1]).to_pandas()).__name__)\n"
        "import pandas as pd\n"
        "print(pa.Table.from_pandas(pd.DataFrame({'x': [1, 2, 3]})).num_rows)\n"
    ) == ["False", "2", "Series", "3"]


def test_our_library_hides_nothing_from_a_program_of_a_user(model):
    """Everything is imported as if we were not there, and in whatever order."""
    assert run(
        "import sys; before = list(sys.meta_path)\n"
        "import pyarrow as pa, scoreline\n"
        f"loaded = scoreline.load({str(model)!r})\n"
        "scoreline.Score, scoreline.ScoreRows\n"
        "import apache_beam as beam\n"
        "print('apache_beam.io.gcp.gcsfilesystem' in sys.modules, 'bson' in sys.modules)\n"
        "print(beam.io.ReadFromBigQuery.__name__, beam.io.mongodbio.MongoClient is not None)\n"
        "import pandas as pd\n"
        "print(pa.array(pd.Series([1.5, None])).null_count)\n"
        "print([f for f in sys.meta_path if 'scoreline' in type(f).__module__])\n"
    ) == ["True", "True", "ReadFromBigQuery", "True", "1", "[]"]
