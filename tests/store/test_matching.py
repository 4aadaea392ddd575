"""The rule of searches, and that an index which keeps its grams misses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.matching import EVERY, TERMS, asked_grams, grams_of, is_match, key_of, normalised, terms_of


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("one two", ("one", "two")),
        ("  one\n one ", ("one",)),
        ('"one  two" three', ("one two", "three")),
        ('"open end', ("open end",)),
        ('a"b c"d', ("a", "b c", "d")),
        ('"" x', ("x",)),
        ("ＡＢＣ　你", ("abc", "你")),
        ("ﬁne", ("fine",)),
    ],
)
def test_a_query_is_cut_into_terms(query: str, terms: tuple[str, ...]) -> None:
    assert terms_of(query) == terms


@pytest.mark.parametrize("query", ["", " ", '""', '" "', "x" * 201, " ".join(map(str, range(TERMS + 1)))])
def test_a_query_has_terms_and_not_too_many(query: str) -> None:
    with pytest.raises(ValueError, match="a query has at"):
        terms_of(query)


TEXTS = st.text(alphabet="abAé e\u0301ß\n 你好世界ﬁ１한😀") | st.text()


@given(st.lists(TEXTS, min_size=1, max_size=3), st.data())
def test_what_matches_has_all_the_grams_that_are_asked_for(texts: list[str], data: st.DataObject) -> None:
    compared = normalised(texts[0])
    first = data.draw(st.integers(0, len(compared)))
    term = compared[first : first + data.draw(st.integers(1, 9))].strip()
    if term:
        assert is_match(texts[0], (term,))
        assert set(asked_grams((term,))) <= grams_of(texts)
        assert set(asked_grams((term, "zz"))) <= grams_of([*texts, "zz"])


@given(TEXTS)
def test_a_text_is_compared_in_one_form(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)
    assert EVERY not in grams_of([text])


def test_grams_fit_into_four_bytes_and_few_are_asked_for() -> None:
    assert all(-(2**31) <= gram < 2**31 for gram in grams_of(["any text, 任何文本"]))
    assert len(asked_grams(["abcdefghijklmnopqrstuvwxyz" * 7])) <= 8
    assert key_of("a") != key_of("b")
