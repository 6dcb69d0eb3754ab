"""The fit of a model to a table, for batch, stream, replay, `--check` and inspect."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pyarrow as pa

from scoreline.lake.files.examples import RAW_COLUMN
from scoreline.lake.table.column_names import find_name_problems
from scoreline.lake.table.letters import REASON_COLUMNS
from scoreline.lake.table.types import storable_type
from scoreline.models.fit import DIGEST_COLUMN, OutputColumn, fit_signature
from scoreline.models.mapping import find_field, find_mismatches
from scoreline.models.model_spec import ModelSpec
from scoreline.models.outputs import output_type
from scoreline.models.signature import FITTING_TYPES, InputColumn, Signature
from scoreline.models.suggest import find_twin
from scoreline.pipelines.options.model import ModelSettings
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.rows import KeySettings, RuleSettings
from scoreline.pipelines.plan.copied import choose_type, find_storable, name_places
from scoreline.transforms.rules import OutputRule
from scoreline.transforms.scoring import ScoreSpec

_NO_SCHEMA = pa.schema([])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """The fit of a model to a table: its inputs, and the columns of a scored row.

    Attributes:
      signature: the signature of the model.
      inputs: the source of each input.
      outputs: the outputs to store.
      rules: the valid numbers of outputs.
      keys: the columns that identify a row within its partition.
      keep: further columns to copy.
      others: partition columns and the like: a misspelled column may mean one of them.
    """

    signature: Signature
    inputs: tuple[InputColumn, ...]
    outputs: tuple[OutputColumn, ...]
    rules: tuple[OutputRule, ...] = ()
    keys: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns to copy: keys, then kept columns."""
        return (*self.keys, *self.keep)

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns of scored rows."""
        return (*self.carried, *(output.column for output in self.outputs), DIGEST_COLUMN)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read; `parent.child` is a field of a struct column."""
        inputs = (source.column for source in self.inputs)
        return tuple(dict.fromkeys((*self.carried, *inputs)))

    def find_name_problems(self, partition_columns: Sequence[str]) -> list[str]:
        """Return why a table cannot hold the columns of scored rows under their names."""
        return [
            f"--output: {problem}. Rename an output with --outputs T=COLUMN, or leave a column out "
            "of --keep"
            for problem in find_name_problems([*self.stored, *partition_columns])
        ]

    def find_letter_problems(self) -> list[str]:
        """Return why dead letters cannot hold the columns that are read under their names."""
        return [
            f"--input: column '{name}' has the name of a column that dead letters add "
            f"({', '.join(REASON_COLUMNS)}). Rename it in the input, or do not read it"
            for name in self.columns
            if {name, name.partition(".")[0]} & {*REASON_COLUMNS}
        ]

    def scores_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return columns and types of scored rows.

        Args:
          schema: the schema of the table, with all carried columns.

        Raises:
          ValueError: Delta Lake has no such type.
        """
        return pa.schema(
            [
                *((name, storable_type(find_field(schema, name)[0])) for name in self.carried),
                *((output.column, _stored_output(output)) for output in self.outputs),
                (DIGEST_COLUMN, pa.string()),
            ]
        )

    def score_spec(self, model: ModelSpec, more: Sequence[str] = ()) -> ScoreSpec:
        """Return the spec for workers; `more` are further columns to copy."""
        return ScoreSpec(
            model=model,
            inputs=self.inputs,
            outputs=tuple(
                (output.tensor.name, output.column, output.conversion) for output in self.outputs
            ),
            carried=(*self.carried, *more),
            rules=self.rules,
        )


def _stored_output(output: OutputColumn) -> pa.DataType:
    """Return the type of an output's column; raises ValueError, with its name, if there is none."""
    if output.tensor.dtype not in FITTING_TYPES:
        raise ValueError(
            f"output '{output.tensor.name}': a Delta table cannot hold {output.tensor.dtype}"
        )
    try:
        return storable_type(output_type(output.tensor, output.conversion))
    except ValueError as e:
        raise ValueError(f"output '{output.tensor.name}': {e}") from e


def fit_model(
    signature: Signature,
    model: ModelSettings,
    problems: Problems,
    *,
    rules: RuleSettings,
    keys: KeySettings | None = None,
    partition_columns: Sequence[str] = (),
    has_records: bool = False,
    input_partitions: Sequence[str] = (),
) -> Fit:
    """Fit a signature to options, and add all problems.

    Args:
      signature: the signature of the model.
      model: the settings of the model.
      problems: the list to which problems are added.
      rules: the settings for valid outputs.
      keys: the columns to copy; None if rows are not stored.
      partition_columns: partition columns of the table of scores.
      has_records: whether rows have a column of whole tf.Examples, `_example`.
      input_partitions: partition columns of the input. If one is a feature, records do not go to
        the model unchanged, since the partition's value counts.
    """
    has_records &= not {spec.name for spec in signature.inputs} & set(input_partitions)
    keys = keys or KeySettings(keys=())
    fit = fit_signature(
        signature,
        model.fit,
        record_column=RAW_COLUMN if has_records else "",
        taken={*keys.carried, DIGEST_COLUMN},
    )
    problems.add_all(fit.problems)
    stored = {output.column for output in fit.outputs}
    problems.add_all(
        f"output column '{column}' is a partition column, which the output has anyway. "
        "Leave it out of --keep, or rename the output with --outputs T=COLUMN"
        for column in partition_columns
        if column in {*keys.keep, DIGEST_COLUMN} or column in stored
    )
    within = tuple(key for key in keys.keys if key not in partition_columns)
    if keys.keys and not within:
        problems.add(
            f"--keys: expected a column of the files, got only partition columns "
            f"({', '.join(keys.keys)}), which are the same for all rows of a partition. Add a "
            "column that tells rows apart"
        )
    return Fit(
        signature=signature,
        inputs=fit.inputs,
        outputs=fit.outputs,
        rules=_choose_rules(rules, fit.outputs, problems),
        keys=within,
        keep=tuple(column for column in keys.keep if column not in partition_columns),
        others=tuple(partition_columns),
    )


def _choose_rules(
    rules: RuleSettings, outputs: Sequence[OutputColumn], problems: Problems
) -> tuple[OutputRule, ...]:
    """Return the rules for the numbers of outputs."""
    specs = {output.tensor.name: output.tensor for output in outputs}
    for name in rules.ranges:
        if name not in specs or specs[name].dtype in ("string", "bool"):
            what = specs[name].dtype if name in specs else "no output that is stored"
            problems.add(f"--range {name}: expected an output of numbers, got {what}")
    found = []
    for name, spec in specs.items():
        low, high = rules.ranges.get(name, (float("-inf"), float("inf")))
        is_float = "float" in spec.dtype
        nan, inf = (is_float and kind in rules.forbid for kind in ("nan", "inf"))
        if nan or inf or name in rules.ranges:
            found.append(OutputRule(name, nan, inf, low, high))
    return tuple(found)


def check_schemas(
    fit: Fit,
    schemas: Mapping[pa.Schema, Sequence[str]],
    problems: Problems,
    *,
    of_files: bool = True,
    known: pa.Schema = _NO_SCHEMA,
) -> pa.Schema | None:
    """Return the columns to copy, with types that hold all values; None if tables lack them.

    All problems are added.

    Args:
      fit: the fit of the model.
      schemas: each distinct schema, and the partitions or topics that have it.
      problems: the list to which problems are added; each names all its places.
      of_files: whether the schemas are complete. Dead letters have only the columns that were read,
        and no others can be added.
      known: the columns of the table of scores, if it is there.
    """
    where: dict[tuple[str, str], list[str]] = {}
    stored: dict[str, dict[pa.DataType, list[str]]] = {column: {} for column in fit.carried}
    are_copied = True
    for schema, paths in schemas.items():
        for column, problem in _find_input_problems(fit, schema, of_files):
            where.setdefault((column, problem), []).extend(paths)
        for flag, column in _copied(fit):
            kind, problem = find_storable(flag, column, schema, fit.others)
            if kind is None:
                are_copied = False
                where.setdefault((column, problem), []).extend(paths)
            else:
                stored[column].setdefault(kind, []).extend(paths)
    total = len({path for paths in schemas.values() for path in paths})
    problems.add_all(
        f"{problem} (in {name_places(paths, total)})."
        + (_advise_missing(fit, column, schemas) if of_files else "")
        for (column, problem), paths in where.items()
    )
    types = {name: choose_type(name, kinds, known, problems) for name, kinds in stored.items()}
    if not are_copied or None in types.values():
        return None
    return pa.schema(list(types.items()))


def _copied(fit: Fit) -> list[tuple[str, str]]:
    """Return the columns that are copied, and the flags that name them."""
    keys = [("--keys", column) for column in fit.keys]
    return [*keys, *(("--keep", column) for column in fit.keep)]


def _find_input_problems(fit: Fit, schema: pa.Schema, of_files: bool) -> list[tuple[str, str]]:
    """Return the columns that cannot feed their inputs, with the reasons."""
    checked = [*fit.inputs, *(_parsed_features(fit, schema) if of_files else ())]
    columns = {source.tensor.name: source.column for source in checked}
    found = find_mismatches(fit.signature, checked, schema, fit.others)
    return [(columns[name], problem) for name, problem in found.items()]


def _parsed_features(fit: Fit, schema: pa.Schema) -> list[InputColumn]:
    """Return the required features of records that the model gets unchanged."""
    if [source.column for source in fit.inputs] != [RAW_COLUMN]:
        return []
    features = fit.signature.inputs
    required = [spec for spec in features if not spec.optional or spec.name in schema.names]
    return [InputColumn(spec, spec.name, is_feature=True) for spec in required]


def _advise_missing(fit: Fit, column: str, schemas: Mapping[pa.Schema, Sequence[str]]) -> str:
    """Return advice for a column that only some partitions have; "" if all or none have it."""
    lacking = [schema.names for schema in schemas if column not in schema.names]
    if not 0 < len(lacking) < len(schemas):
        return ""
    if any(find_twin(column, names) for names in lacking):
        return f" Others have '{column}': write it with one name everywhere."
    if column in fit.keys:
        return " Others have it: a key must be in every partition, since it tells rows apart."
    null = f" or {column}=null" if column in fit.keep else ""
    return (
        " Others have it: give a value for where it is missing with "
        f"--allow_missing {column}=VALUE{null}."
    )
