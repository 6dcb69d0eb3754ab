import pytest

from scoreline.models.runtimes.graph_ops import describe_missing_op


@pytest.mark.parametrize(
    ("op", "told"),
    [
        ("SentencepieceTokenizeOp", "an op of tensorflow-text"),
        ("RegexSplitWithOffsets", "an op of tensorflow-text"),
        ("Addons>ImageConnectedComponents", "an op of tensorflow-addons"),
        ("SimpleMLInferenceOpWithHandle", "an op of tensorflow-decision-forests"),
        ("MyOwnOp", "Load the library that has this op"),
    ],
)
def test_a_missing_op_is_told_with_the_package_that_has_it(op, told):
    assert told in describe_missing_op(op)
    assert "--load_op_library PATH" in describe_missing_op(op)
