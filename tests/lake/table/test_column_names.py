import pytest

from scoreline.lake.table.column_names import find_name_problems


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["Score", "score"], "'Score' and 'score' at once"),
        (["id", "x", "ID"], "'id' and 'ID' at once"),
        (["DATE", "date", "Date"], "'DATE' and 'date' and 'Date' at once"),
        (["Ünï", "ünï"], "'Ünï' and 'ünï' at once"),
        (["a\0b"], r"a zero byte: 'a\x00b'"),
    ],
)
def test_names_that_a_table_cannot_hold_are_told(names, told):
    (problem,) = find_name_problems(names)
    assert told in problem


def test_all_other_names_are_kept():
    assert not find_name_problems(["a b", "a,b", "x.y", "_change_type", "select", "l" * 300, "ünï"])
