"""Beam still needs our workarounds. If a test fails, remove the workaround in its name.

Tests that need an engine or its jar are in tests/integration/test_workarounds.py.
"""

from __future__ import annotations

import functools
import http.server
import inspect
import json
import logging
import re
import sys
import tempfile
import threading
import zipfile

import apache_beam as beam
import pytest
from apache_beam import typehints
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.metrics.monitoring_infos import consolidate
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import (
    DebugOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.flink_uber_jar_job_server import FlinkBeamJob
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, fn_runner
from apache_beam.runners.portability.stager import Stager
from apache_beam.runners.worker import sdk_worker, statesampler
from apache_beam.transforms import core
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.userstate import get_dofn_specs
from apache_beam.utils.counters import CounterFactory
from hypothesis import given
from hypothesis import strategies as st

from scoreline.pipelines.runners import workarounds
from scoreline.pipelines.runners.flink_savepoint import SavepointFlinkRunner
from scoreline.pipelines.runners.runner import choose_runner
from scoreline.pipelines.score_batch import read_counters
from scoreline.transforms import metrics
from scoreline.transforms.bundle_metrics import BundleMetrics
from tests.fakes import ROOT

BUNDLES = 400


def _ours():
    """The names of the workarounds in that file."""
    return [
        name
        for name, value in vars(workarounds).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == workarounds.__name__
    ]


def test_each_workaround_says_what_it_is_for_and_has_a_test():
    tests = "".join(
        (ROOT / "tests" / folder / "test_workarounds.py").read_text()
        for folder in ("pipelines", "integration")
    )
    assert len(_ours()) == 10
    for name in _ours():
        told = inspect.getdoc(getattr(workarounds, name))
        assert re.search(r"^Issue: \S", told, re.M), name
        assert re.search(r"^Seen in: \S", told, re.M), name
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        assert f"def test_{snake}_or_" in tests, name


class _OnePerBundle(beam.DoFn, RestrictionProvider):
    """Ends a bundle after each record, like a stream after each poll."""

    def initial_restriction(self, element):
        return OffsetRange(0, BUNDLES)

    def create_tracker(self, restriction):
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element, restriction):
        return restriction.size()

    def setup(self):
        self._metrics = BundleMetrics()

    def process(self, element, tracker=beam.DoFn.RestrictionParam()):  # noqa: B008
        at = tracker.current_restriction().start
        if tracker.try_claim(at):
            self._metrics.count(metrics.ROWS_READ, 1)
            yield at
            tracker.defer_remainder()

    def finish_bundle(self):
        self._metrics.flush()


def _count_in_many_bundles(pipeline):
    """Return the counters, read with a stack that is less deep than the number of bundles."""
    _ = pipeline | beam.Create([0]) | beam.ParDo(_OnePerBundle())
    result = pipeline.run()
    result.wait_until_finish()
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + BUNDLES // 2)
    try:
        return read_counters(result)
    finally:
        sys.setrecursionlimit(usual)


def test_add_up_counters_at_once_or_many_bundles_end_in_a_recursion_error(monkeypatch):
    monkeypatch.setattr(
        fn_runner, "consolidate_monitoring_infos", consolidate
    )  # Beam's own function
    with pytest.raises(RecursionError):
        _count_in_many_bundles(beam.Pipeline(runner=FnApiRunner()))
    counters = _count_in_many_bundles(choose_runner([]).make_pipeline(1))
    assert counters["rows_read"] == BUNDLES


def test_parse_options_once_or_each_view_builds_a_parser(monkeypatch):
    made = []

    class Counted(pipeline_options._BeamArgumentParser):
        def __init__(self, *args, **kwargs):
            made.append(self)
            super().__init__(*args, **kwargs)

    def count(view_as):
        options = PipelineOptions(["--job_name=counted"])
        made.clear()
        assert {view_as(options, StandardOptions).runner for _ in range(5)} == {None}
        return len(made)

    workarounds.parse_options_once()
    monkeypatch.setattr(pipeline_options, "_BeamArgumentParser", Counted)
    assert count(PipelineOptions.view_as.__wrapped__) == 5
    assert count(PipelineOptions.view_as) == 1


FLAGS = [
    [],
    ["--runner=flink", "--streaming", "--experiments=a", "--experiment=b", "--unknown=1"],
    ["--environment_type=EXTERNAL", "--environment_options=x=1", "--direct_num_workers", "3"],
    ["--job_name=j", "--labels=a=b", "--pickle_library=dill", "--no_save_main_session"],
]


class _OwnOptions(PipelineOptions):
    default = 1

    @classmethod
    def _add_argparse_args(cls, parser):
        parser.add_argument("--own_number", type=int, default=cls.default)


@pytest.mark.parametrize("flags", FLAGS, ids=["none", "standard", "portable", "setup"])
def test_options_that_are_parsed_once_are_as_beam_parses_them(flags, monkeypatch):
    workarounds.parse_options_once()
    beams = PipelineOptions.view_as.__wrapped__
    families = PipelineOptions.__subclasses__()
    assert len(families) > 15
    for family in families:
        for _ in range(2):
            options, expected = PipelineOptions(flags), PipelineOptions(flags)
            view, right = options.view_as(family), beams(expected, family)
            assert type(view) is family
            assert options._all_options == expected._all_options
            assert dir(view) == dir(right)
            assert str(view) == str(right)
    # The views of one object share what is changed in one of them; those of another do not.
    options = PipelineOptions(flags)
    options.view_as(DebugOptions).add_experiment("changed")
    options.view_as(StandardOptions).runner = "changed"
    options.view_as(PortableOptions).add_environment_option("changed=1")
    again = options.view_as(StandardOptions).view_as(DebugOptions)
    assert again.lookup_experiment("changed")
    assert options.view_as(StandardOptions).runner == "changed"
    other = PipelineOptions(flags)
    assert not other.view_as(DebugOptions).lookup_experiment("changed")
    assert other.view_as(StandardOptions).runner != "changed"
    assert not other.view_as(PortableOptions).lookup_environment_option("changed")
    # A class of a user may read anything.
    assert other.view_as(_OwnOptions).own_number == 1
    monkeypatch.setattr(_OwnOptions, "default", 2)
    assert PipelineOptions(flags).view_as(_OwnOptions).own_number == 2


def test_read_arguments_of_methods_or_all_signatures_are_inspected(monkeypatch):
    inspected = []
    signature = core.get_signature
    workarounds.read_arguments_of_methods()
    monkeypatch.setattr(core, "get_signature", lambda f: inspected.append(f) or signature(f))
    get_dofn_specs(_OnePerBundle())
    assert not inspected
    monkeypatch.setattr(
        core, "get_function_args_defaults", core.get_function_args_defaults.__wrapped__
    )
    get_dofn_specs(_OnePerBundle())
    assert len(inspected) > 20


PARTS = ["a, b, /", "c", "d, e", "f=1", "g=None, h=2", "*args", "*, i", "*, j=3", "**rest"]


@given(st.lists(st.sampled_from(PARTS), unique=True))
def test_arguments_of_methods_are_those_that_beam_finds(parts):
    workarounds.read_arguments_of_methods()
    found, right = core.get_function_args_defaults, core.get_function_args_defaults.__wrapped__
    text = ", ".join(parts)
    places = {}
    try:
        exec(f"def plain({text}): pass\ndef method(self, {text}): pass", places)
    except SyntaxError:  # not in an order that Python allows
        return
    plain, method = places["plain"], places["method"]

    def changed(self, x, y=5):
        pass

    changed.__signature__ = inspect.signature(method)

    class Holder:
        bare = plain
        usual = method
        wrapped = functools.wraps(method)(lambda *args, **kwargs: None)
        signed = changed
        partial = functools.partialmethod(method, 1)
        of_class = classmethod(method)
        free = staticmethod(plain)
        hinted = typehints.with_input_types(int)(method)

    holder = Holder()
    for name in ("bare", "usual", "wrapped", "signed", "of_class", "free", "hinted", "partial"):
        try:
            expected = right(getattr(holder, name))
        except (TypeError, ValueError) as e:
            with pytest.raises(type(e)):
                found(getattr(holder, name))
        else:
            assert found(getattr(holder, name)) == expected, name


def test_keep_tracebacks_off_the_terminal_or_a_worker_prints_them(capsys, monkeypatch):
    def fail(_):
        raise ZeroDivisionError

    def run(pipeline):
        capsys.readouterr()
        _ = pipeline | beam.Create([1]) | beam.Map(fail)
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            pipeline.run()
        return capsys.readouterr().err

    pipeline = choose_runner([]).make_pipeline(2)
    monkeypatch.delitem(vars(sdk_worker), "print")
    assert "Traceback" in run(pipeline)
    assert "Traceback" not in run(choose_runner([]).make_pipeline(2))


def test_lean_workers_runner_or_a_worker_process_imports_googles_clients(tmp_path):
    def loads_them(runner):
        flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=1"]
        found = str(tmp_path / type(runner).__name__)
        with beam.Pipeline(runner=runner, options=PipelineOptions(flags)) as pipeline:
            asked = pipeline | beam.Create(["'google.auth' in __import__('sys').modules"])
            _ = asked | beam.Map(eval) | beam.io.WriteToText(found, shard_name_template="")
        with open(found) as file:
            return file.read().strip()

    assert loads_them(FnApiRunner()) == "True"
    assert loads_them(workarounds.LeanWorkersRunner()) == "False"


def test_keep_values_out_of_the_log_or_secrets_are_in_it(caplog):
    flags = ["--db_password=hunter2", "--api_token", "hunter3"]
    logger = logging.getLogger("apache_beam.options.pipeline_options")
    ours = [found for found in logger.filters if found is workarounds._name_flags_only]
    for found in ours:
        logger.removeFilter(found)
    PipelineOptions(flags).get_all_options()
    assert "hunter2" in caplog.text
    assert "hunter3" in caplog.text
    caplog.clear()
    choose_runner(flags).options.get_all_options()
    assert "--db_password" in caplog.text
    assert "hunter" not in caplog.text


def test_leave_packages_out_of_the_log_or_pip_lists_them(tmp_path):
    def staged(options):
        found = Stager.create_job_resources(
            options, str(tmp_path), log_submission_env_dependencies=True
        )
        return [artifact.role_payload for artifact in found]

    options = PipelineOptions([])
    assert len(staged(options)) == 1
    workarounds.leave_packages_out_of_the_log(options)
    assert staged(options) == []


def test_sample_often_or_ends_of_bundles_wait():
    """Without the workaround, the end of a bundle waits for a thread that sleeps up to 200 ms."""
    assert statesampler.DEFAULT_SAMPLING_PERIOD_MS == 200
    sampler = statesampler.StateSampler("step", CounterFactory(), 200)
    before = {*threading.enumerate()}  # other tests may leave threads of Beam
    sampler.start()
    threads = {*threading.enumerate()} - before
    sampler.stop()
    assert threads
    assert not [thread for thread in threads if thread.is_alive()]


@pytest.fixture
def flink():
    """A JobManager that accepts every job and ends it at once; it records its requests."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def answer(self, body, status=200):
            encoded = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def do_GET(self):
            if self.path.endswith("/execution-result"):
                self.answer({"status": {"id": "COMPLETED"}})
            else:
                self.answer({"state": "FINISHED", "flink-version": "1.19.3"})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            asked[self.path] = body
            if self.path.endswith("/stop"):
                self.answer({}, 202)
            elif self.path.endswith("/run") and b"refused" in body:
                self.answer({}, 500)
            else:
                self.answer({"filename": "/a/b.jar", "jobid": "j"})

        def do_DELETE(self):
            self.answer({})

        def log_message(self, *args):
            pass

    asked = {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def submit(flink, tmp_path, monkeypatch):
    """Return a function that submits a pipeline and returns the request of /run."""
    jar = tmp_path / "runner.jar"
    with zipfile.ZipFile(jar, "w") as file:
        file.writestr("META-INF/MANIFEST.MF", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    master, asked = flink

    def submit(runner, *flags):
        argv = ["--runner=flink", f"--flink_master={master}", f"--flink_job_server_jar={jar}"]
        options = choose_runner([*argv, *flags]).options
        workarounds.leave_packages_out_of_the_log(options)
        pipeline = beam.Pipeline(runner=runner, options=options)
        _ = pipeline | beam.Create([0])
        result = pipeline.run()
        assert result.state == "DONE"
        return json.loads(asked["/v1/jars/b.jar/run"])

    return submit


def test_savepoint_flink_runner_or_a_jar_begins_without_its_savepoint(submit):
    flags = ["--savepoint_path=/s", "--allow_non_restored_state=true"]
    assert set(submit(FlinkRunner(), *flags)) == {"entryClass"}
    asked = submit(SavepointFlinkRunner(), *flags)
    assert asked.pop("entryClass")
    assert asked == {"savepointPath": "/s", "allowNonRestoredState": True}


def test_run_on_flink_or_a_job_is_cancelled_where_flink_has_nothing(flink):
    master, asked = flink
    job = object.__new__(FlinkBeamJob)
    job._master_url, job._flink_job_id, job._jar_uploaded = f"http://{master}", "j", False
    job.cancel()
    assert "/v1/j/stop" in asked  # Flink has /v1/jobs/j/stop, and PATCH /v1/jobs/j


def test_removing_jar_copies_or_folders_stay_behind(submit, tmp_path):
    submit(FlinkRunner())
    assert list(tmp_path.glob("apache-beam-flink*"))
    before = set(tmp_path.iterdir())
    with workarounds.removing_jar_copies():
        submit(FlinkRunner())
    assert set(tmp_path.iterdir()) == before
