"""The part of a message in which what was searched for stands, cut between graphemes."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from gateway.text.cuts import cut_at_or_before, cut_at_or_behind
from store.matching import normalised

# Two lines on a telephone, the match within the first.
LENGTH: Final = 120
_BEFORE: Final = 40
# A grapheme may have as many marks as its writer likes; one that has more than this is left out.
_LONGEST: Final = 2 * LENGTH


class Part(NamedTuple):
    """A piece of a snippet, and whether it is what was searched for."""

    text: str
    is_match: bool


def snippet(content: str, terms: Sequence[str]) -> list[Part]:
    """The neighbourhood of the first match, its matches apart; `…` where something was left out."""
    found, length = _first(content, terms)
    start = cut_at_or_before(content, max(0, found - _BEFORE))
    end = cut_at_or_before(content, min(len(content), start + LENGTH + length), start)
    if end == start or found - start > _LONGEST:
        return [Part("…", is_match=False)] if content else []
    shown = content[start:end]
    parts = [Part(shown[a:b], is_match) for a, b, is_match in _spans(shown, terms)]
    left = [Part("…", is_match=False)] if start > 0 else []
    right = [Part("…", is_match=False)] if end < len(content) else []
    return left + parts + right


def _first(content: str, terms: Sequence[str]) -> tuple[int, int]:
    """Where the first match begins, about, and how long it is; 0 where there is none."""
    compared = normalised(content)
    places = [(place, len(term)) for term in terms if (place := compared.find(term)) >= 0]
    place, length = min(places, default=(0, 0))
    return _place_of(content, place), length


def _place_of(text: str, place: int) -> int:
    """Where in a text the character at a place of its normalised form comes from, about.

    Each look normalises a part of the text; there are as many as the text's length has binary digits.
    """
    if text.isascii() and len(normalised(text)) == len(text):
        return place
    behind = bisect_left(range(len(text)), place + 1, key=lambda at: len(normalised(text[: at + 1])))
    return min(behind, len(text))


def _spans(shown: str, terms: Sequence[str]) -> list[tuple[int, int, bool]]:
    """The snippet in pieces: what matches, widened to whole graphemes, and what is between."""
    marked: list[tuple[int, int]] = []
    for first, last in sorted(_found(normalised(shown), terms)):
        start = cut_at_or_before(shown, _place_of(shown, first))
        end = cut_at_or_behind(shown, _place_of(shown, last - 1) + 1, start)
        if marked and start < marked[-1][1]:
            start, before = marked.pop()
            end = max(end, before)
        marked.append((start, end))
    edges = [0, *(edge for span in marked for edge in span), len(shown)]
    spans = [(a, b, n % 2 == 1) for n, (a, b) in enumerate(pairwise(edges))]
    return [span for span in spans if span[0] < span[1]]


def _found(compared: str, terms: Sequence[str]) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    for term in terms:
        at = compared.find(term)
        while at >= 0:
            places.append((at, at + len(term)))
            at = compared.find(term, at + len(term))
    return places
