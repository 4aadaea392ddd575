"""Where a text may be cut: never within a grapheme, what a reader takes for one character.

Stricter than Unicode's rules (UAX #29): where these need tables that Python lacks, there is no cut. So what
lies between two cuts is one grapheme or several, never a part of one.
"""

import unicodedata
from typing import Final

# Hangul letters that join into syllables; halfwidth voice marks; skin tones.
_JOINING: Final = (
    ("\u1100", "\u11ff"),
    ("\ua960", "\ua97f"),
    ("\ud7b0", "\ud7ff"),
    ("\uff9e", "\uff9f"),
    ("\U0001f3fb", "\U0001f3ff"),
)
# UAX #29, Prepend: letters that belong to what follows. The others of it are format characters.
_PREPENDED: Final = frozenset(
    "\u0d4e\U000111c2\U000111c3\U0001193f\U00011941\U00011a3a\U00011d46\U00011f02"
    "\U00011a84\U00011a85\U00011a86\U00011a87\U00011a88\U00011a89"
)
_VIRAMA: Final = 9  # the combining class of signs that join a consonant to the next one


def is_cut(text: str, at: int, start: int = 0) -> bool:
    """Whether a text may be cut before the character at `at`; `start` is a cut before it, or 0."""
    if at <= start or at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if before.isascii() and after.isascii():
        return (before, after) != ("\r", "\n")
    if _joins_what_is_before(after) or _joins_what_follows(before):
        return False
    if _is_flag_half(before) and _is_flag_half(after):
        return _flag_halves(text, at, start) % 2 == 0
    return not _ends_joined(text, at, start)


def cut_at_or_before(text: str, at: int, start: int = 0) -> int:
    """The last cut up to `at`; `start` where there is none behind it."""
    while not is_cut(text, at, start):
        at -= 1
    return at


def cut_at_or_behind(text: str, at: int, start: int = 0) -> int:
    """The first cut from `at` on."""
    while not is_cut(text, at, start):
        at += 1
    return at


def _joins_what_is_before(character: str) -> bool:
    # Cn: what this Python does not know may be a mark of a later Unicode.
    return unicodedata.category(character) in {"Mn", "Me", "Mc", "Cf", "Cn"} or any(
        first <= character <= last for first, last in _JOINING
    )


def _joins_what_follows(character: str) -> bool:
    is_jamo = any(first <= character <= last for first, last in _JOINING[:2])
    return is_jamo or character in _PREPENDED or unicodedata.category(character) in {"Cf", "Cn"}


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _flag_halves(text: str, at: int, start: int) -> int:
    """How many halves of flags stand before `at`."""
    first = at
    while first > start and _is_flag_half(text[first - 1]):
        first -= 1
    return at - first


def _ends_joined(text: str, at: int, start: int) -> bool:
    """Whether the marks before `at` join it: a virama, whatever other marks are beside it."""
    while at > start and _joins_what_is_before(text[at - 1]):
        if unicodedata.combining(text[at - 1]) == _VIRAMA:
            return True
        at -= 1
    return False
