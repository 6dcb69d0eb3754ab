"""Ops that can make a row's score depend on chance, on its place in a call, or on earlier calls.

They count only where a signature reaches them: every SavedModel assigns variables when it is
loaded, and trains with ops that no score needs.
"""

from __future__ import annotations

from collections.abc import Mapping

_CHANCE = "draws random numbers: scores may differ between runs"
_SEEDED = "draws random numbers from a seed: a score may depend on the row's place in its call"
_STATE = "changes a variable: scores may depend on earlier calls"
_TABLE = "adds to a table: scores may depend on earlier calls, and on the order of rows"

OPS_OF_SCORES: Mapping[str, str] = {
    **dict.fromkeys(("RandomUniform", "RandomStandardNormal", "TruncatedNormal"), _CHANCE),
    **dict.fromkeys(("RandomShuffle", "Multinomial", "RandomUniformInt"), _CHANCE),
    **dict.fromkeys(("RandomGamma", "RandomPoissonV2", "ParameterizedTruncatedNormal"), _CHANCE),
    **dict.fromkeys(("RngReadAndSkip", "StatefulUniform", "StatefulStandardNormalV2"), _CHANCE),
    **dict.fromkeys(("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL"), _CHANCE),
    **dict.fromkeys(
        (
            *("StatelessRandomUniform", "StatelessRandomUniformV2", "StatelessRandomUniformInt"),
            *("StatelessRandomUniformIntV2", "StatelessRandomNormal", "StatelessRandomNormalV2"),
            *("StatelessTruncatedNormal", "StatelessTruncatedNormalV2", "StatelessMultinomial"),
            *("StatelessRandomGammaV2", "StatelessRandomGammaV3", "StatelessShuffle"),
        ),
        _SEEDED,
    ),
    **dict.fromkeys(("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"), _STATE),
    **dict.fromkeys(("Assign", "AssignAdd", "AssignSub", "ScatterAdd", "ScatterUpdate"), _STATE),
    **dict.fromkeys(("ResourceScatterAdd", "ResourceScatterUpdate"), _STATE),
    **dict.fromkeys(("LookupTableInsertV2", "LookupTableInsert"), _TABLE),
}
