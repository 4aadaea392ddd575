"""What is shown of a message that was found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.text.cuts import is_cut
from gateway.text.snippets import LENGTH, Part, snippet
from store.matching import QUERY_LENGTH, is_match, normalised, terms_of


def shown(content: str, query: str) -> str:
    """A snippet with its matches in brackets."""
    return "".join(
        f"[{part.text}]" if part.is_match else part.text for part in snippet(content, terms_of(query))
    )


@pytest.mark.parametrize(
    ("content", "query", "text"),
    [
        ("the cat sat", "cat", "the [cat] sat"),
        ("The CAT sat, cat", "cat", "The [CAT] sat, [cat]"),
        ("a  b\nc", '"a b c"', "[a  b\nc]"),
        ("你好世界", "世", "你好[世]界"),
        ("cafe\u0301 e", "é", "caf[e\u0301] e"),
        ("Straße", "strasse", "[Straße]"),
        ("Straße", "s", "[S]tra[ß]e"),
        ("ﬁne", "i", "[ﬁ]ne"),
        (
            "a \U0001f468\u200d\U0001f469\u200d\U0001f467 b",
            "\U0001f469",
            "a [\U0001f468\u200d\U0001f469\u200d\U0001f467] b",
        ),
        ("abc", "b ab", "[ab]c"),
        ("abcd", "abc bcd", "[abcd]"),
        ("cat\U0003134bcat", "cat", "[cat\U0003134bcat]"),
        ("nothing here", "cat", "nothing here"),
        ("", "cat", ""),
    ],
)
def test_matches_are_shown_apart_widened_to_whole_graphemes(content: str, query: str, text: str) -> None:
    assert shown(content, query) == text


def test_of_a_long_message_the_neighbourhood_of_the_first_match_is_shown() -> None:
    text = shown("x" * 500 + " cat " + "y" * 500 + " cat", "cat")
    assert text.startswith("…xxx")
    assert text.endswith("yyy…")
    assert text.count("[cat]") == 1
    assert len(text) <= LENGTH + 3 + 4


def test_a_match_as_long_as_a_query_may_be_is_shown_whole() -> None:
    phrase = "q" * (QUERY_LENGTH - 2)
    assert f"[{phrase}]" in shown("x" * 90 + phrase + "z" * 90, f'"{phrase}"')


def test_a_grapheme_that_is_too_long_is_left_out() -> None:
    zalgo = "e" + "\u0301" * 1_000
    assert snippet(zalgo + " cat", ("e\u0301\u0301",)) == [Part("…", is_match=False)]
    assert shown("cat " + zalgo, "cat") == "[cat] …"
    assert shown(zalgo + "cat", "cat") == "…"


WORDS = [
    "cat",
    "CAT ",
    "世界",
    "e\u0301",
    "ß",
    " ",
    "\n",
    "\U0001f468\u200d\U0001f469",
    "\U0001f1e9\U0001f1ea",
    "ﬁ",
    "x" * 30,
]
CONTENTS = st.lists(st.sampled_from(WORDS) | st.characters(), max_size=30).map("".join)


@given(CONTENTS, st.sampled_from(["cat", "世", "é", "ss", "fi cat"]))
def test_a_snippet_is_a_part_of_its_message_cut_between_graphemes(content: str, query: str) -> None:
    terms = terms_of(query)
    parts = snippet(content, terms)
    whole = content
    if parts and parts[0] == Part("…", is_match=False) and not content.startswith("…"):
        parts = parts[1:]
    if parts and parts[-1] == Part("…", is_match=False) and not content.endswith("…"):
        parts = parts[:-1]
    text = "".join(part.text for part in parts)
    assert text in whole
    assert any(
        is_cut(whole, at) and is_cut(whole, at + len(text), at)
        for at in range(len(whole) + 1)
        if whole.startswith(text, at)
    )
    assert all(any(term in normalised(part.text) for term in terms) for part in parts if part.is_match)
    assert any(part.is_match for part in parts) or not is_match(content, terms)
