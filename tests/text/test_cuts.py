"""Where a text may be cut; one example of each rule of Unicode's (UAX #29)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.text.cuts import cut_at_or_before, cut_at_or_behind, is_cut

WHOLE = {
    "a line break of two": "\r\n",
    "a letter and its accent": "e\u0301",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a heart with its variation": "\u2764\ufe0f",
    "a thumb and its skin": "\U0001f44d\U0001f3fd",
    "a flag": "\U0001f1e9\U0001f1ea",
    "a syllable of parts": "\u1112\u1161\u11ab",
    "a syllable and its end": "\uac00\u11a8",
    "a beginning and a syllable": "\u1100\uac00",
    "consonants joined by a virama": "\u0915\u094d\u0937",
    "the same with a mark between": "\u0915\u094d\u093c\u0937",
    "a vowel sign": "\u0928\u093f",
    "a number sign of Arabic": "\u0600\u0661",
    "a letter put before": "\u0d4e\u0d15",
    "a halfwidth voice mark": "\uff76\uff9e",
    "a keycap": "1\ufe0f\u20e3",
    "what is not known yet": "a\U000e0fff",
}


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_a_grapheme_is_not_cut(text: str) -> None:
    around = f"x{text}y"
    cuts = [at for at in range(len(around) + 1) if is_cut(around, at)]
    assert not set(range(2, 1 + len(text))) & set(cuts)
    assert {0, len(around)} <= set(cuts)


@pytest.mark.parametrize("text", ["ab", "中文", "a中", "é!", "\n\r", "한국", "का।", "a\u0301b"])
def test_between_characters_there_is_a_cut(text: str) -> None:
    assert any(is_cut(text, at) for at in range(1, len(text)))


def test_flags_are_counted_from_the_last_cut() -> None:
    flags = "\U0001f1e9\U0001f1ea" * 3
    assert [at for at in range(7) if is_cut(flags, at)] == [0, 2, 4, 6]
    assert [at for at in range(1, 7) if is_cut(flags, at, 1)] == [1, 3, 5, 6]


@given(st.text(alphabet="a\u0301\u200d\U0001f1e9\r\n中\u094d\u0915 "), st.integers(0, 30))
def test_the_nearest_cuts_are_cuts_on_either_side(text: str, at: int) -> None:
    at = min(at, len(text))
    before, behind = cut_at_or_before(text, at), cut_at_or_behind(text, at)
    assert before <= at <= behind
    assert is_cut(text, before)
    assert is_cut(text, behind)
    assert not any(is_cut(text, between) for between in range(before + 1, behind) if between != at)
