"""How each partition ended, written where the launcher finds it, whatever the runner."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import apache_beam as beam
from pyarrow import fs

from transforms.elements import Outcome
from transforms.io.filesystems import list_folder, resolve
from transforms.io.layout import outcomes_folder


def _locate(output: str, job_id: str) -> tuple[fs.FileSystem, str]:
    file_system, root = resolve(output)
    return file_system, outcomes_folder(root, job_id)


def write_outcome(output: str, job_id: str, outcome: Outcome) -> None:
    """Write a partition's outcome; a retry overwrites the same file."""
    file_system, folder = _locate(output, job_id)
    file_system.create_dir(folder, recursive=True)
    name = hashlib.sha256(outcome.partition.encode()).hexdigest()[:24]
    with file_system.open_output_stream(f"{folder}/{name}.json") as stream:
        stream.write(json.dumps(outcome._asdict()).encode())


def take_outcomes(output: str, job_id: str) -> list[Outcome]:
    """Return a job's outcomes, sorted by partition, and remove their files."""
    file_system, folder = _locate(output, job_id)
    outcomes = []
    for info in list_folder(file_system, folder):
        with file_system.open_input_stream(info.path) as stream:
            outcomes.append(Outcome(**json.loads(stream.readall())))
    if outcomes:
        file_system.delete_dir(folder)
    return sorted(outcomes)


@dataclasses.dataclass(kw_only=True, eq=False)
class WriteOutcomes(beam.PTransform):
    """Write each Outcome for the launcher to read when the job has ended."""

    output: str
    job_id: str

    def expand(self, outcomes: beam.PCollection[Outcome]) -> beam.PCollection[None]:
        """Write one small file for each partition."""
        output, job_id = self.output, self.job_id
        return outcomes | "WriteOutcome" >> beam.Map(
            lambda outcome: write_outcome(output, job_id, outcome)
        ).with_output_types(type(None))
