"""When a message matches a search: the rule, the same for every backend, and what an index keeps of it.

A query is cut into terms at white space; what stands in double quotes is one term. A message matches when its
text holds every term, wherever in a word: both are compared in NFKC, case-folded, white space as one space.
An index keeps grams (runs of one, two or three characters, as numbers) and may say yes too often, never too
rarely: what it finds is held against the rule.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

# A sentence; what is longer is no search, and each term costs a look into every message that is read.
QUERY_LENGTH: Final = 200
TERMS: Final = 8
# Which a look-up asks for: each is one more place to look, and with so many few blocks are found in vain.
_ASKED_GRAMS: Final = 8
# From here on two characters tell as much as three letters.
_DENSE: Final = "\u2e80"

# A block with more grams than an index takes has this one, and is found whatever is asked for.
EVERY: Final = -1

_SPACE: Final = re.compile(r"\s+")
_TERM: Final = re.compile(r'"([^"]*)"?|([^\s"]+)')


def normalised(text: str) -> str:
    """The text as it is compared."""
    if text.isascii():
        return _SPACE.sub(" ", text.lower())
    # NFKC again: folding may take a character apart that has a form of its own.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _SPACE.sub(" ", folded)


def terms_of(query: str) -> tuple[str, ...]:
    """The terms of a query, as they are compared. ValueError: there is none, or it is too long."""
    if len(query) > QUERY_LENGTH:
        raise ValueError(f"a query has at most {QUERY_LENGTH} characters")
    found = (normalised(quoted or plain).strip() for quoted, plain in _TERM.findall(query))
    terms = tuple(dict.fromkeys(term for term in found if term))
    if not terms:
        raise ValueError("a query has at least one term")
    if len(terms) > TERMS:
        raise ValueError(f"a query has at most {TERMS} terms: put what belongs together in quotes")
    return terms


def is_match(text: str, terms: Sequence[str]) -> bool:
    """Whether a text matches: the rule itself."""
    compared = normalised(text)
    return all(term in compared for term in terms)


def grams_of(texts: Iterable[str]) -> set[int]:
    """What an index keeps of some texts together."""
    # No term holds a line break: grams across two texts are never asked for.
    text = "\n".join(map(normalised, texts))
    threes = {text[at : at + 3] for at in range(len(text) - 2)}
    if not text.isascii():
        threes = {run for run in threes if max(run) < _DENSE}
    twos = {text[at : at + 2] for at in range(len(text) - 1)}
    return {_number(run) for run in threes | twos | set(text)}


def asked_grams(terms: Sequence[str]) -> list[int]:
    """Some of the grams that every match has."""
    runs = list(dict.fromkeys(run for term in terms for run in _runs(term)))
    step = -(-len(runs) // _ASKED_GRAMS)
    return [_number(run) for run in runs[::step]]


def key_of(session: str) -> int:
    """The gram by which the blocks of a session are found; another's may have the same number."""
    return _number(f"\n{session}")


def _runs(term: str) -> Iterable[str]:
    if len(term) <= 2:
        return [term]
    threes = [term[at : at + 3] for at in range(len(term) - 2)]
    return [run if max(run) < _DENSE else run[:2] for run in threes] + [term[-2:]] * (term[-1] >= _DENSE)


def _number(run: str) -> int:
    # 32 bits, as Postgres has them: two runs with one number cost a look into a block, and no more.
    number = zlib.crc32(run.encode("utf-8", "surrogatepass")) - 2**31
    return number if number != EVERY else EVERY + 1
