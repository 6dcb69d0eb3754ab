"""The extras of the package: what a command needs besides what is always installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from scoreline.pipelines.options.problems import BadOptions


def require_extra(extra: str, packages: Mapping[str, str]) -> None:
    """Check that the packages of an extra are installed, without importing them.

    Args:
      extra: the name of the extra.
      packages: the names of its packages, by module.

    Raises:
      BadOptions: some are not.
    """
    missing = [name for module, name in packages.items() if not importlib.util.find_spec(module)]
    if missing:
        raise BadOptions(
            [
                f"expected the packages of the extra {extra}, but these are not installed: "
                f"{', '.join(missing)}. Run `pip install 'scoreline[{extra}]'`"
            ]
        )
