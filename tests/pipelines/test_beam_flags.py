from __future__ import annotations

import subprocess
import sys

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from scoreline.pipelines.options.beam_flags import beam_flags
from tests.fakes import ROOT


def test_every_flag_that_beam_declares_is_known_without_it():
    parser = _BeamArgumentParser(allow_abbrev=False, add_help=False, conflict_handler="resolve")
    for family in PipelineOptions.__subclasses__():
        if family.__module__.startswith("apache_beam.options.") and "_add_argparse_args" in vars(
            family
        ):
            family._add_argparse_args(parser)
    declared = {option for action in parser._actions for option in action.option_strings}
    assert len(declared) > 100
    assert not declared - beam_flags()
    assert "--nonsense" not in beam_flags()


def test_beam_is_not_imported_for_its_flags():
    code = (
        "import sys; from scoreline.pipelines.options.beam_flags import beam_flags; "
        "assert '--runner' in beam_flags(); assert 'apache_beam' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
