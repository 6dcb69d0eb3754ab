"""The options of a batch scoring job, declared once, and the settings they make once checked."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from models.conversions import RAGGED, parse_conversion
from models.versions import DIGEST_PREFIX
from pipelines.exit_codes import EXIT_FAILED, EXIT_WRONG
from pipelines.options import BatchScoringOptions
from transforms.io.files import MOST_BATCH_BYTES, MOST_VALUE_BYTES, Limits
from transforms.io.filesystems import may_pass
from transforms.io.partitions import PartitionSpec
from transforms.score import DIGEST_COLUMN

_SECRET_NAMES = re.compile(r"(?i)(^|[&_-])\w*(token|secret|password|passwd|key|sig|signature)\w*=")


class Passing(str):
    """A sentence about what may be gone at the next attempt: something does not answer."""


def as_problem(error: Exception, told_of: str) -> str:
    """Return a sentence on an error and what it is about; `Passing` if it may be gone next time."""
    sentence = f"{told_of}: {error}"
    return Passing(sentence) if may_pass(error) else sentence


class BadOptions(ValueError):
    """Options or input that cannot be scored; `problems` holds every sentence about them."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep the problems, without repetitions, in order."""
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))

    @property
    def exit_code(self) -> int:
        """What a command ends with: who starts it again may do so after 1, and not after 2."""
        is_passing = all(isinstance(problem, Passing) for problem in self.problems)
        return EXIT_FAILED if is_passing else EXIT_WRONG


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchScoringSettings:
    """Checked settings of a batch scoring job; fields are named and explained as the options.

    Attributes:
      calls_per_process: how many of the workers share a process, where that is not all of them.
    """

    input: str
    output: str
    model: str
    signature: str = "serving_default"
    keys: tuple[str, ...]
    keep: tuple[str, ...] = ()
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    fills: dict[str, str] = dataclasses.field(default_factory=dict)
    pads: dict[str, str] = dataclasses.field(default_factory=dict)
    truncate: tuple[str, ...] = ()
    outputs: dict[str, str] | None = None
    op_libraries: tuple[str, ...] = ()
    partitions: tuple[PartitionSpec, ...] = ()
    schema: str | None = None
    allow_missing: dict[str, str] = dataclasses.field(default_factory=dict)
    model_digest: str | None = None
    last: int | None = None
    reprocess: str = "none"
    forbid: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    max_dead_letter_ratio: float = 0.01
    batch_rows: int | None = None
    max_value_bytes: int = MOST_VALUE_BYTES
    max_batch_bytes: int = MOST_BATCH_BYTES
    batch_timeout_s: float | None = None
    workers: int = 1
    calls_per_process: int | None = None
    check: bool = False

    @classmethod
    def from_options(
        cls,
        options: PipelineOptions,
        problems: Sequence[str] = (),
        needs: Sequence[str] = ("--input", "--output", "--model", "--keys"),
    ) -> BatchScoringSettings:
        """Parse and check options.

        Args:
          options: the whole command line.
          problems: what is known to be wrong with it already.
          needs: the flags that must be given.

        Raises:
          BadOptions: some are missing or wrong; lists all of them.
        """
        given = options.view_as(BatchScoringOptions)
        read = OptionReader(problems, needs)
        settings = cls(
            input=read.place("--input", given.input),
            output=read.place("--output", given.output),
            model=read.local("--model", read.required("--model", given.model)),
            signature=given.signature,
            keys=read.names("--keys", read.required("--keys", given.keys)),
            keep=read.names("--keep", given.keep or ""),
            columns=read.pairs("--columns", given.columns, "T=C"),
            fills=read.values("--fill", given.fill),
            pads=read.values("--pad", given.pad),
            truncate=read.names("--truncate", given.truncate or ""),
            outputs=read.outputs(given.outputs),
            op_libraries=read.files("--load_op_library", given.load_op_library),
            partitions=read.specs(given.partitions),
            schema=next(iter(read.files("--schema", [given.schema] if given.schema else [])), None),
            allow_missing=read.values("--allow_missing", given.allow_missing, "C=VALUE"),
            model_digest=read.digest(given.model_digest),
            last=None if given.last is None else read.positive("--last", given.last, ""),
            reprocess=given.reprocess,
            forbid=read.forbidden(given.forbid or ""),
            ranges=read.ranges(given.range),
            max_dead_letter_ratio=read.ratio(given.max_dead_letter_ratio),
            batch_rows=(
                None
                if given.batch_rows == "auto"
                else read.positive("--batch_rows", given.batch_rows, "auto or ")
            ),
            max_value_bytes=read.positive("--max_value_bytes", given.max_value_bytes, ""),
            max_batch_bytes=read.positive("--max_batch_bytes", given.max_batch_bytes, ""),
            batch_timeout_s=read.seconds("--batch_timeout_s", given.batch_timeout_s),
            workers=(
                available_cpus()
                if given.workers is None
                else read.positive("--workers", given.workers, "")
            ),
            check=given.check,
        )
        read.conversions(settings)
        read.check_limits(settings)
        read.check_collisions(settings)
        read.check_runner(options)
        if read.problems:
            raise BadOptions(read.problems)
        return settings

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns copied from the input: keys, then kept columns."""
        return (*self.keys, *self.keep)

    @property
    def limits(self) -> Limits:
        """What may be decoded at once."""
        return Limits(self.max_value_bytes, self.max_batch_bytes)

    @property
    def concurrent_calls(self) -> int:
        """How many calls of the model a process makes at once."""
        return self.calls_per_process or self.workers

    @property
    def ragged(self) -> tuple[tuple[str, str], ...]:
        """The inputs that are components of ragged tensors, and which."""
        asked = ((name, parse_conversion(text)[0]) for name, text in sorted(self.columns.items()))
        return tuple((name, conversion) for name, conversion in asked if conversion in RAGGED)

    def output_column(self, name: str) -> tuple[str, str]:
        """Return the column of an output, and `binary` when its bytes are stored, else ""."""
        column = (self.outputs or {}).get(name, name)
        if column.startswith("binary(") and column.endswith(")"):
            return column.removeprefix("binary(")[:-1], "binary"
        return column, ""


def find_secret(flag: str, uri: str) -> str:
    """Return what is wrong with a URI that holds a secret, without the secret; "" when none.

    Where data is gets printed, logged and recorded; credentials come from the environment.
    """
    parts = urlsplit(uri) if "://" in uri else None
    if parts is None or not (parts.password or _SECRET_NAMES.search(parts.query)):
        return ""
    return (
        f"{flag}: expected a URI without a secret, got one with a password or token: "
        f"{parts.scheme}://{parts.hostname}{parts.path}. Paths are printed and logged; give "
        "credentials by the environment, as its cloud's tools do"
    )


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OptionReader:
    """Reads option values and gathers what is wrong with them, to say it all at once."""

    def __init__(self, problems: Sequence[str], needs: Sequence[str]) -> None:
        self.problems = list(problems)
        self._needs = needs

    def required(self, flag: str, value: str | None) -> str:
        """Return a value that must be given."""
        if not value and flag in self._needs:
            self.problems.append(f"{flag} is required")
        return value or ""

    def place(self, flag: str, value: str | None) -> str:
        """Return a path or URI that must be given, and must hold no secret."""
        problem = find_secret(flag, value or "")
        if problem:
            self.problems.append(problem)
        return self.required(flag, value)

    def local(self, flag: str, value: str) -> str:
        """Return a path of this machine."""
        if "://" in value:
            self.problems.append(f"{flag}: expected a local path, got {value}. Copy it first")
        return value

    def names(self, flag: str, text: str) -> tuple[str, ...]:
        """Return names with commas between."""
        names = tuple(name.strip() for name in text.split(",")) if text else ()
        if "" in names:
            self.problems.append(f"{flag}: expected names with commas between, got '{text}'")
        return names

    def pairs(self, flag: str, texts: Sequence[str] | None, form: str) -> dict[str, str]:
        """Return pairs with `=` between them, of texts with commas between."""
        pairs: dict[str, str] = {}
        for text in (part for given in texts or () for part in given.split(",")):
            left, equals, right = text.partition("=")
            if not equals or not left or not right:
                self.problems.append(f"{flag}: expected {form}, got '{text}'")
            elif left in pairs:
                self.problems.append(f"{flag}: {left} is given twice")
            else:
                pairs[left] = right
        return pairs

    def values(
        self, flag: str, texts: Sequence[str] | None, form: str = "T=VALUE"
    ) -> dict[str, str]:
        """Return values by name, of texts such as `T=VALUE`."""
        values: dict[str, str] = {}
        for text in texts or ():
            name, equals, value = text.partition("=")
            if not equals or not name:
                self.problems.append(f"{flag}: expected {form}, got '{text}'")
            elif name in values:
                self.problems.append(f"{flag}: {name} is given twice")
            values[name] = value
        return values

    def files(self, flag: str, paths: Sequence[str] | None) -> tuple[str, ...]:
        """Return the absolute paths of files that are there."""
        for path in paths or ():
            if not os.path.isfile(path):
                self.problems.append(f"{flag}: expected a file, got {path}")
        return tuple(os.path.abspath(path) for path in paths or ())

    def conversions(self, settings: BatchScoringSettings) -> None:
        """Check the conversions that `--columns` asks for."""
        for text in settings.columns.values():
            try:
                parse_conversion(text)
            except ValueError as e:
                self.problems.append(f"--columns: {e}")

    def outputs(self, texts: Sequence[str] | None) -> dict[str, str] | None:
        """Return the columns of outputs by output; None for all."""
        if not texts:
            return None
        whole = [
            part if "=" in part else f"{part}={part}" for text in texts for part in text.split(",")
        ]
        return self.pairs("--outputs", whole, "T or T=C")

    def specs(self, texts: Sequence[str] | None) -> tuple[PartitionSpec, ...]:
        """Return what partitions are meant."""
        specs = []
        for text in texts or ():
            try:
                specs.append(PartitionSpec(text))
            except ValueError as e:
                self.problems.append(str(e))
        return tuple(specs)

    def digest(self, text: str | None) -> str | None:
        """Return a digest of a model."""
        digits = (text or "").removeprefix(DIGEST_PREFIX)
        if text and (len(digits) != 64 or not text.startswith(DIGEST_PREFIX)):
            self.problems.append(
                f"--model_digest: expected {DIGEST_PREFIX} and 64 hex digits, got '{text}'"
            )
        return text

    def forbidden(self, text: str) -> tuple[str, ...]:
        """Return the kinds of numbers that no output may be."""
        names = self.names("--forbid", text)
        if set(names) - {"nan", "inf"}:
            self.problems.append(f"--forbid: expected nan, inf or both, got '{text}'")
        return names

    def ranges(self, texts: Sequence[str] | None) -> dict[str, tuple[float, float]]:
        """Return bounds by output."""
        ranges: dict[str, tuple[float, float]] = {}
        for text in texts or ():
            name, _, bounds = text.partition("=")
            low, dots, high = bounds.partition("..")
            try:
                ranges[name] = (float(low or "-inf"), float(high or "inf"))
            except ValueError:
                dots = ""
            if not dots or not name or not ranges[name][0] <= ranges[name][1]:
                self.problems.append(
                    f"--range: expected T=FROM..TO with FROM at most TO, got '{text}'"
                )
        return ranges

    def ratio(self, text: str) -> float:
        """Return a number from 0 to 1."""
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            self.problems.append(
                f"--max_dead_letter_ratio: expected a number from 0 to 1, got '{text}'"
            )
        return value

    def positive(self, flag: str, text: str, alternative: str) -> int:
        """Return a whole number of at least 1."""
        try:
            value = int(text)
        except ValueError:
            value = 0
        if value < 1:
            self.problems.append(
                f"{flag}: expected {alternative}a whole number of at least 1, got '{text}'"
            )
        return max(value, 1)

    def seconds(self, flag: str, text: str | None) -> float | None:
        """Return a positive number of seconds; None when it is not given."""
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < math.inf:
            self.problems.append(f"{flag}: expected a number of seconds above 0, got '{text}'")
        return value

    def check_limits(self, settings: BatchScoringSettings) -> None:
        """Note it when a value may be larger than the batch that holds it."""
        if settings.max_value_bytes > settings.max_batch_bytes:
            self.problems.append(
                f"--max_value_bytes: expected at most --max_batch_bytes, which is "
                f"{settings.max_batch_bytes}, got {settings.max_value_bytes}"
            )

    def check_collisions(self, settings: BatchScoringSettings) -> None:
        """Check that no two output columns have one name."""
        columns = [settings.output_column(name)[0] for name in settings.outputs or ()]
        names = [*settings.carried, *columns, DIGEST_COLUMN]
        for name in dict.fromkeys(n for n in names if names.count(n) > 1):
            self.problems.append(
                f"output column '{name}' comes from more than one of --keys, --keep, --outputs and "
                f"{DIGEST_COLUMN}. Rename an output with --outputs T=COLUMN, or name it once"
            )

    def check_runner(self, options: PipelineOptions) -> None:
        """Check what the runner needs."""
        runner = (options.view_as(StandardOptions).runner or "").rsplit(".", 1)[-1]
        if runner == "PrismRunner" and not options.get_all_options().get("prism_location"):
            self.problems.append(
                "--runner=PrismRunner: expected --prism_location=PATH of the Prism binary; without "
                "it Beam fetches one from the web. `make prism` builds it"
            )
