import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.models.conversions import parse_conversion
from scoreline.models.fit import FitOptions
from scoreline.models.names import quote_name, split_list, split_pair, unquote_name
from scoreline.models.signature import unique_names
from scoreline.pipelines.options.problems import Problems
from scoreline.pipelines.options.reader import OptionReader

NAMES = st.text(min_size=1, max_size=8) | st.sampled_from(
    ["length (cm)", "a, b", "c=d", 'q"uote', '"', '""', " padded ", "max(x)", "x.y", "(", "a\nb"]
)


def read(method, *args):
    problems = Problems()
    found = getattr(OptionReader(problems), method)(*args)
    problems.check()
    return found


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_lists_of_any_names_come_back_as_they_were_written(names):
    text = ",".join(map(quote_name, names))
    assert list(read("names", "--keys", text)) == names
    assert list(read("outputs", [text])) == names
    options = FitOptions(outputs=read("outputs", [text]))
    assert [options.output_column(name) for name in names] == [(name, "") for name in names]


@given(st.dictionaries(NAMES, st.tuples(NAMES, st.sampled_from(["", "float32"])), min_size=1))
def test_pairs_of_any_names_come_back_as_they_were_written(pairs):
    parts = [
        f"{quote_name(left)}={f'{kind}({quote_name(right)})' if kind else quote_name(right)}"
        for left, (right, kind) in pairs.items()
    ]
    found = read("pairs", "--columns", [",".join(parts)], "T=C")
    assert {left: parse_conversion(text)[::-1] for left, text in found.items()} == pairs


@given(NAMES, st.text(max_size=5))
def test_a_value_follows_any_name(name, value):
    assert read("values", "--fill", [f"{quote_name(name)}={value}"]) == {name: value}


@pytest.mark.parametrize("name", ["id", "length cm", "x.y", "x/y", "x:z", "ünï", "_", "a-b"])
def test_names_without_separators_need_no_quotes(name):
    assert quote_name(name) == unquote_name(name) == name


def test_a_quote_within_a_name_separates_nothing():
    assert split_list('q"a,b"') == ['q"a', 'b"']
    assert split_pair('"a=b"=c') == ("a=b", "=", "c")
    assert split_pair('"a"b=c') == ('"a"b', "=", "c")


def test_a_column_that_looks_like_a_conversion_is_written_in_quotes():
    with pytest.raises(ValueError, match=r'is written in double quotes: "max\(x\)"'):
        parse_conversion("max(x)")
    assert parse_conversion('"max(x)"') == ("", "max(x)")
    assert parse_conversion('int32("max(x)")') == ("int32", "max(x)")


def test_equal_and_empty_names_of_tensors_become_unique():
    assert unique_names(["a", "b"], "output") == ["a", "b"]
    assert unique_names(["head", "head", "head_0"], "output") == ["head_1", "head_2", "head_0"]
    assert unique_names(["", "", "x"], "input") == ["input_0", "input_1", "x"]
