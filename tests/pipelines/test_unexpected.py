"""A foreign exception at any exit of any command: one sentence, exit code 1, and a log."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from scoreline.__main__ import main
from scoreline.pipelines.report.unexpected import read_job_error
from scoreline.transforms.score import ModelFails
from tests.fakes import Ended, write_lake
from tests.fakes import save_model as save

REPORT = "This is a fault of Scoreline or of a library that it uses. Report it with the log "
SECRET = "of-nobody-else"


class Foreign(Exception):
    """An error of a library that nobody foresaw."""


@pytest.fixture
def fail_at(monkeypatch):
    """Return a function that makes a function raise a foreign error."""

    def arrange(place, error=None):
        def fail(*args, **kwargs):
            raise error or Foreign("the disk sings")

        module, _, name = place.partition(":")
        owner = importlib.import_module(f"scoreline.{module}")
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        monkeypatch.setattr(owner, last, fail)

    return arrange


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def run(*argv):
        capsys.readouterr()
        code = main([str(part) for part in argv])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of scores with dead letters, and the dataset and the model that it is from."""
    base = tmp_path_factory.mktemp("unexpected")
    lake = write_lake(base / "lake", days=2, rows=40, files=1)
    model = save(base / "model", limit=0.9)
    options = [f"--input={lake}", f"--model={model}", f"--output={base / 'scores'}"]
    assert main(["batch", *options, "--keys=id", "--max_dead_letter_ratio=1"]) == 3
    return {"lake": lake, "model": model, "output": str(base / "scores")}


def assert_reported(ended, phase):
    """Assert that only our words are shown, and that the log has the traceback and no values."""
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert 'File "' not in ended.err
    found = re.search(re.escape(REPORT) + r"(\S+\.log)", ended.err)
    assert found, ended.err
    assert phase in ended.err
    assert "Foreign: the disk sings" in ended.err
    log = Path(found[1]).read_text()
    assert "Traceback (most recent call last):" in log
    assert "in fail" in log
    assert re.search(r"pyarrow \d+", log)
    assert SECRET not in log


LAUNCHER = {
    "options": ("pipelines.command:check_flags", "while reading the options"),
    "input": ("pipelines.plan.batch:find_dataset", "while listing the input "),
    "model files": ("pipelines.plan.batch:find_model", "while reading the files of the model "),
    "table": ("pipelines.plan.batch:find_table", "while opening the table "),
    "load": ("models.model_spec:ModelSpec.load_here", "while loading the model "),
    "footers": ("pipelines.plan.batch:read_files", "while reading schemas and footers of "),
    "plan": ("pipelines.plan.batch:plan_shards", "while planning the job"),
    "report": ("pipelines.score_batch:print_report", "while reporting the results"),
    "build": ("pipelines.score_batch:build", "The job failed with an unexpected error"),
    "first outcome": ("transforms.outcomes:write_outcome", "The job failed in step WriteOutcomes/"),
    "outcomes": ("pipelines.score_batch:take_outcomes", "The job failed with an unexpected error"),
}


@pytest.mark.parametrize("exit_", LAUNCHER)
def test_batch_reports_a_foreign_error_of_its_own_process(exit_, command, fail_at, table, tmp_path):
    place, phase = LAUNCHER[exit_]
    fail_at(place)
    ended = command(
        "batch",
        *(f"--input={table['lake']}", f"--model={table['model']}", "--keys=id"),
        *(f"--output={tmp_path / SECRET}", "--max_dead_letter_ratio=1"),
    )
    assert_reported(ended, phase)


WORKER = {
    "read": ("transforms.read:read_shard", "while reading "),
    "features": ("transforms.score:build_features", "while scoring rows from 0 of shard 0"),
    "rules": ("transforms.scoring:attach_keys", "while scoring rows from 0 of shard 0"),
    "stage": ("lake.table.shard_writer:ScoresWriter.write", "while writing to "),
    "receipt": ("transforms.stage:write_receipt", "while writing to "),
    "commit": ("transforms.commit:commit_partitions", "while committing"),
    "keys": ("lake.table.commit:count_duplicate_keys", "while committing"),
}


@pytest.mark.parametrize("exit_", WORKER)
def test_a_foreign_error_of_a_step_costs_its_partition_and_is_kept_in_the_table(
    exit_, command, fail_at, table, tmp_path
):
    place, phase = WORKER[exit_]
    fail_at(place)
    output = tmp_path / "scores"
    arguments = (
        *("batch", f"--input={table['lake']}", f"--model={table['model']}", "--keys=id"),
        *(f"--output={output}", "--max_dead_letter_ratio=1"),
    )
    ended = command(*arguments)
    assert ended.code == 1
    failures = [line for line in ended.out.splitlines() if " failed: unexpected error " in line]
    assert len(failures) == 2
    for line in failures:
        assert phase in line
        assert "Foreign: the disk sings" in line
        paths = re.findall(r"Report it with its traceback, (\S+\.txt)", line)
        assert paths
        for path in map(Path, paths):
            assert path.parent == output / "_scoreline" / "tracebacks"
            assert "Traceback (most recent call last):" in path.read_text()
    assert "Traceback" not in ended.err + ended.out


def test_partitions_without_the_error_are_published(command, monkeypatch, table, tmp_path):
    from scoreline.transforms import commit

    def fail_once(partitions, *args, real=commit.commit_partitions):
        if any(receipts[0].partition == "date=2024-01-01" for receipts in partitions):
            raise Foreign
        return real(partitions, *args)

    monkeypatch.setattr(commit, "commit_partitions", fail_once)
    arguments = (
        *("batch", f"--input={table['lake']}", f"--model={table['model']}", "--keys=id"),
        *(f"--output={tmp_path / 'scores'}", "--max_dead_letter_ratio=1"),
    )
    ended = command(*arguments)
    assert ended.code == 1
    assert "1 committed, 1 NOT published" in ended.out
    assert "date=2024-01-01 failed: unexpected error while committing" in ended.out
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "400")
    assert command(*arguments).code == 3
    assert command("table", "verify", f"--output={tmp_path / 'scores'}").code == 0


_REPLAY = "replaying the dead letters of "
OTHERS = {
    "replay options": ("replay", "pipelines.command:check_flags", "reading the options"),
    "replay letters": ("replay", "pipelines.replay:read_letters", _REPLAY),
    "replay model": ("replay", "pipelines.replay:find_model", _REPLAY),
    "replay load": ("replay", "models.model_spec:ModelSpec.load", _REPLAY),
    "replay rows": ("replay", "pipelines.replay:score_batch", _REPLAY),
    "replay merge": (
        "replay",
        "pipelines.replay:drop_known_keys",
        _REPLAY,
    ),
    "inspect files": ("inspect", "pipelines.inspect_model:inspect_model", "inspecting "),
    "inspect load": ("inspect", "models.model_spec:ModelSpec.load", "inspecting "),
    "inspect rows": ("inspect", "pipelines.plan.preview:score_batch", "inspecting "),
    "check rows": ("check", "pipelines.plan.preview:score_batch", "scoring the first rows"),
    "status": ("status", "pipelines.table_actions:read_status", "running table status on "),
    "verify": ("verify", "pipelines.table_actions:verify_partitions", "running table verify on "),
    "history": ("history", "pipelines.table_actions:read_commits", "running table history on "),
    "vacuum": ("vacuum", "pipelines.table_actions:vacuum_table", "running table vacuum on "),
    "open": ("status", "pipelines.table_actions:open_table", "running table status on "),
    "stream topics": ("stream", "pipelines.plan.stream:find_topics", "asking Kafka for topic in"),
}


@pytest.mark.parametrize("exit_", OTHERS)
def test_other_commands_report_a_foreign_error(exit_, command, fail_at, table, tmp_path):
    kind, place, phase = OTHERS[exit_]
    fail_at(place)
    model, output = f"--model={table['model']}", f"--output={table['output']}"
    arguments = {
        "replay": ("replay", model, output, "--keys=id"),
        "inspect": ("inspect", model, f"--input={table['lake']}"),
        "check": (
            *("batch", "--check", model, f"--input={table['lake']}", "--keys=id"),
            f"--output={tmp_path / 'new'}",
        ),
        "stream": (
            *("stream", model, "--brokers=127.0.0.1:9", "--topic=in", "--output_topic=out"),
            *("--dead_letter_topic=dead", "--format=json", "--keys=id", "--group=g"),
        ),
    }
    ended = command(*arguments.get(kind, ("table", kind, output)))
    assert_reported(ended, phase)


def test_json_has_the_sentence_of_an_unexpected_error(command, fail_at, table):
    fail_at("pipelines.table_actions:read_status", KeyError("q"))
    ended = command("table", "status", f"--output={table['output']}", "--json")
    found = json.loads(ended.out)
    assert found["exit_code"] == ended.code == 1
    assert found["problems"][0].startswith("Unexpected error while running table status on ")
    assert "(pipelines.table_actions:" in found["problems"][0]
    assert "KeyError: 'q'" in found["problems"][0]


LOCAL = """Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1512, in apache_beam.runners.common.DoFnRunner.process
  File "/x/scoreline/transforms/kafka/reader.py", line 189, in _check
    raise ReadFails(
    ^^^^^^^^^^^^^^^^
{error} [while running 'ReadKafka/ReadTopic']

"""


@pytest.mark.parametrize(
    ("error", "message", "step", "is_foreseen"),
    [
        (
            RuntimeError(LOCAL.format(error="scoreline.transforms.score.ModelFails: It fails")),
            *("It fails", "ReadKafka/ReadTopic", True),
        ),
        (
            RuntimeError(LOCAL.format(error="ConnectionResetError: [Errno 104] reset\nby peer")),
            *("[Errno 104] reset\nby peer", "ReadKafka/ReadTopic", True),
        ),
        (
            RuntimeError(LOCAL.format(error="cimpl.KafkaException: KafkaError{code=1}")),
            *("KafkaException: KafkaError{code=1}", "ReadKafka/ReadTopic", False),
        ),
        (
            RuntimeError(
                LOCAL.format(
                    error='cimpl.KafkaException: KafkaError{code=_TIMED_OUT,val=-185,str="No '
                    'leader: Local: Timed out"}'
                )
            ),
            "Kafka or its client reports: No leader: Local: Timed out (_TIMED_OUT)",
            *("ReadKafka/ReadTopic", True),
        ),
        (
            RuntimeError(LOCAL.format(error="KeyError: 'q'")),
            *("KeyError: 'q'", "ReadKafka/ReadTopic", False),
        ),
        (ModelFails("It fails"), "It fails", "", True),
        (
            ModelFails("It fails: CallHung: no [while running 'Score/Predict']"),
            *("It fails: CallHung: no", "Score/Predict", True),
        ),
        (
            ModelFails("KeyError: 'q' [while running 'Score/Predict']"),
            *("KeyError: 'q'", "Score/Predict", False),
        ),
        (OSError(28, "No space"), "[Errno 28] No space", "", True),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero", "", False),
    ],
    ids=[
        "ours",
        "store",
        "kafka in an unknown form",
        "kafka",
        "builtin",
        "ours here",
        "ours by a step",
        "quoted",
        "store here",
        "foreign here",
    ],
)
def test_error_of_a_job_is_read_from_the_text_of_its_traceback(error, message, step, is_foreseen):
    assert read_job_error(error) == (message, step, is_foreseen)
