"""Arguments of the library → a loaded model and its `ScoreSpec`."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import pyarrow as pa

from scoreline.models.artifact import digest_model
from scoreline.models.errors import ModelError
from scoreline.models.fit import DIGEST_COLUMN, FitOptions, fit_signature
from scoreline.models.mapping import find_field, find_mismatches
from scoreline.models.model_spec import ModelSpec
from scoreline.models.names import quote_name
from scoreline.models.servable import Servable
from scoreline.models.signature import DEFAULT_SIGNATURE, Signature
from scoreline.transforms.scoring import ScoreSpec

# Flags of the command line in messages, which become keyword arguments of the library.
_ARGUMENTS = {
    "fill": "fills",
    "pad": "pads",
    "pad_length": "pad_lengths",
    "load_op_library": "op_libraries",
    "input": "path",
    "output": "table",
}
_FLAG = re.compile(
    r"--(?P<flag>[a-z_]+)(?: '?(?P<name>[\w.]+)=(?P<value>\w+(?:\.\w+)*(?:\([\w.]*\))?)'?)?"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WantedModel:
    """A model, and the columns that feed it, with the fields of `scoreline.load`."""

    path: str
    signature: str = DEFAULT_SIGNATURE
    options: FitOptions = dataclasses.field(default_factory=FitOptions)
    batch_rows: int | None = None
    digest: str | None = None
    op_libraries: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    batch_timeout_s: float | None = None
    allow_impure: str | None = None

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        *,
        columns: Mapping[str, str] | None = None,
        fills: Mapping[str, object] | None = None,
        pads: Mapping[str, object] | None = None,
        pad_lengths: Mapping[str, int] | None = None,
        truncate: Sequence[str] = (),
        outputs: Mapping[str, str] | Sequence[str] | None = None,
        **rest: Any,
    ) -> WantedModel:
        """Parse the arguments of a public function."""
        if outputs is not None and not isinstance(outputs, Mapping):
            outputs = {name: quote_name(name) for name in _names("outputs", outputs)}
        options = FitOptions(
            columns=dict(columns or {}),
            fills={name: _text(value) for name, value in (fills or {}).items()},
            pads={name: _text(value) for name, value in (pads or {}).items()},
            pad_lengths={name: str(length) for name, length in (pad_lengths or {}).items()},
            truncate=tuple(_names("truncate", truncate)),
            outputs=outputs and dict(outputs),
        )
        return cls(path=os.path.abspath(path), options=options, **rest)

    def load(self, *, shared: bool) -> Servable:
        """Load the model: a new one, or the shared one of this process.

        Raises:
          FileNotFoundError: there is no model.
          ModelError: another digest, no such signature, or a model that fails to load or run.
        """
        try:
            if not shared:
                return self._model_spec(self.digest or "", None).load(shared=False)
            # With the key of workers in this process, so that they reuse the loaded model.
            return self._model_spec(self.digest or digest_model(self.path), 1).load()
        except FileNotFoundError as e:
            raise FileNotFoundError(in_python(str(e))) from e
        except ModelError as e:
            raise ModelError(in_python(str(e))) from e

    def _model_spec(self, digest: str, concurrent_calls: int | None) -> ModelSpec:
        return ModelSpec(
            path=self.path,
            digest=digest,
            signature=self.signature,
            batch_rows=self.batch_rows,
            concurrent_calls=concurrent_calls,
            op_libraries=self.op_libraries,
            tags=self.tags,
            outputs=self.options.asked_outputs,
            ragged=self.options.ragged,
            batch_timeout_s=self.batch_timeout_s,
        )

    def to_spec(self, model: Servable, carried: Sequence[str]) -> ScoreSpec:
        """Fit the signature of the loaded model to the arguments.

        Raises:
          ValueError: the arguments do not fit the signature; the message lists all problems.
        """
        fit = fit_signature(model.signature, self.options, taken={*carried, DIGEST_COLUMN})
        columns = [*carried, *(output.column for output in fit.outputs), DIGEST_COLUMN]
        problems = [
            *fit.problems,
            *(
                f"column '{name}' of the result comes from more than one of keys, keep, outputs "
                f"and {DIGEST_COLUMN}. Rename an output, or name the column once"
                for name in dict.fromkeys(n for n in columns if columns.count(n) > 1)
            ),
        ]
        if problems:
            refuse(problems)
        return ScoreSpec(
            model=self._model_spec(model.digest, 1),
            inputs=fit.inputs,
            outputs=tuple((o.tensor.name, o.column, o.conversion) for o in fit.outputs),
            carried=tuple(carried),
            checks_purity=True,
            allow_impure=self.allow_impure or "",
        )

    def fit_here(self, carried: Sequence[str]) -> tuple[Signature, ScoreSpec]:
        """Load the model in the launcher; return its signature and its spec.

        Workers in this process reuse the loaded model. A model with a time limit is loaded in a
        separate process, which ends before this returns.

        Raises:
          FileNotFoundError, ModelError, ValueError: see `load` and `to_spec`.
        """
        model = self.load(shared=True)
        try:
            return model.signature, self.to_spec(model, carried)
        finally:
            model.close()


def check_schema(signature: Signature, spec: ScoreSpec, schema: pa.Schema) -> None:
    """Check that a table can feed a signature, and has the columns to copy.

    Raises:
      ValueError: it cannot, or a column is missing; the message lists all problems.
    """
    problems = list(find_mismatches(signature, spec.inputs, schema).values())
    for column in spec.carried:
        count = len(find_field(schema, column))
        if count != 1:
            found = "no column" if not count else f"{count} columns"
            problems.append(
                f"keys and keep: the table has {found} '{column}'; it has {', '.join(schema.names)}"
            )
    if problems:
        refuse(problems)


def refuse(problems: Sequence[str]) -> NoReturn:
    """Raise a ValueError that lists all problems, one per line."""
    sentences = [in_python(problem) for problem in dict.fromkeys(problems)]
    head = f"{len(sentences)} things are wrong:\n" if len(sentences) > 1 else ""
    raise ValueError(head + "\n".join(sentences))


def in_python(message: str) -> str:
    """Return a message of the command line with its flags as keyword arguments of the library."""

    def argument(match: re.Match[str]) -> str:
        name = _ARGUMENTS.get(match["flag"], match["flag"])
        if match["name"] is None:
            return name
        return f"{name}={{'{match['name']}': '{match['value']}'}}"

    return _FLAG.sub(argument, message)


def _names(argument: str, names: Sequence[str]) -> Sequence[str]:
    """Return names; raise TypeError for a single string."""
    if isinstance(names, str):
        raise TypeError(f"{argument}: expected names in a list, got the text '{names}'")
    return names


def name_list(argument: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return names of columns.

    Raises:
      TypeError: the argument is a single string instead of several names.
    """
    return tuple(_names(argument, names))


def _text(value: object) -> str:
    """Return a value as the text of an option, which `parse_value` converts to the dtype."""
    return value.decode() if isinstance(value, bytes) else str(value)
