"""Sentences for speech, in Chinese and English and a mixture of both, by rules of our own.

docs/sentences.md names the rules. No place is looked at more often than its neighbourhood is long,
which is bounded: the time grows with the text, whatever it is made of.
"""

import re
from collections.abc import Iterator
from typing import Final

from gateway.text.cuts import cut_at_or_before, cut_at_or_behind, is_cut


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Twenty seconds of speech in English, a minute in Chinese: above it listeners and voices lose the thread.
LONGEST: Final = 240

_CJK: Final = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_IS_CJK: Final = re.compile(f"[{_CJK}]").match
_PLACE: Final = re.compile(r"[.!?。！？｡．…‼⁇⁈⁉؟۔।॥]+|[\r\n\x85\u2028\u2029]")
_FULL: Final = frozenset("。！？｡‼⁇⁈⁉؟۔।॥")
_CLOSERS: Final = frozenset("\"'”’»)]}）】》」』〉〕］｝﹂﹄")
_SPACE: Final = re.compile(r"\s*")
# Within these there is no stop, and none is cut. A URL ends before the stop of its sentence.
_URL: Final = re.compile(
    rf"(?<![a-z0-9])(?:[a-z][a-z0-9+.-]{{1,15}}://|www\.)[^\s<>\"“”‘’、。，…{_CJK}]*[^\s<>\"“”‘’、。，…{_CJK}.,;:!?)\]}}']",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"\d+(?:[.,:/]\d+)+|\d+")
_DOTTED: Final = re.compile(r"(?:[^\W\d_]{1,10}\.)+(?:[^\W\d_]{1,10}(?![\w]))?")
_TOKEN: Final = re.compile(r"(?:[^\W_]|\.(?=[^\W_]))*$")
_NEAR: Final = 24
# Something always follows these.
_TITLES: Final = _words(
    "mr mrs ms dr prof st sr rev gen col sgt capt lt cmdr maj hon pres gov sen rep mme mlle messrs "
    "vs cf e.g i.e eg ie viz approx ca fig figs eq dept est ft mt"
)
# These may stand last: then a new sentence shows by how it begins.
_LAST: Final = _words(
    "etc inc ltd co corp jr al ed eds a.m p.m am pm u.s u.k u.n e.u d.c ph.d b.a m.a b.c a.d "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat ave blvd rd"
)
# Abbreviations before a number only.
_COUNTED: Final = _words("no nos p pp vol vols ch sec art")
_INITIALS: Final = re.compile(r"[^\W\d_](?:\.[^\W\d_])*").fullmatch
_STARTERS: Final = _words(
    "a after all although an and as at because but by for from he her here his how however i if in it its "
    "my no now of on one or our she so some that the their then there these they this those though to we "
    "well what when where which while who why with yes yet you your"
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
# Places for a breath in what is too long, the best first: behind these marks, then at a space.
_BREATHS: Final = (
    re.compile(rf"[；：]|[;:—–](?=[\s{_CJK}])|—(?=—?\w)"),
    re.compile(rf"[，、]|,(?=[\s{_CJK}])"),
    re.compile(r"\s"),
)


def split_sentences(text: str, longest: int = LONGEST) -> list[str]:
    """Split a text; all sentences together are the text, but for white space.

    None is longer than `longest`, unless a grapheme, a number, an abbreviation or a URL alone is.
    """
    urls = [match.span() for match in _URL.finditer(text)]
    ends = [*_ends(text, urls), len(text)]
    sentences: list[str] = []
    start = 0
    for end in ends:
        sentences.extend(_shortened(_bare(text[start:end]), longest))
        start = end
    return [sentence for sentence in sentences if sentence]


def _ends(text: str, urls: list[tuple[int, int]]) -> Iterator[int]:
    """Where sentences end, in order."""
    start = counted = quotes = 0
    place = 0
    following_urls = iter([*urls, (len(text), len(text))])
    url_start, url_end = next(following_urls)
    while match := _PLACE.search(text, place):
        place = match.end()
        while match.start() >= url_end and url_start < len(text):
            url_start, url_end = next(following_urls)
        if url_start <= match.start() < url_end:
            place = url_end
            continue
        quotes += text.count('"', counted, match.start())
        counted = match.start()
        behind = _closed(text, match.end(), is_quoted=quotes % 2 == 1)
        if match[0][0] in "\r\n\x85\u2028\u2029":
            is_end, behind = _ends_line(text, match.end()), match.end()
        else:
            is_end = _ends_sentence(text, match, behind, start)
        if is_end:
            behind = cut_at_or_behind(text, behind, start)
            yield behind
            start = place = counted = max(behind, match.end())
            quotes = 0


def _closed(text: str, at: int, *, is_quoted: bool) -> int:
    """Behind the quotes and brackets that close after a stop. A straight quote closes what one has opened."""
    while at < len(text) and text[at] in _CLOSERS:
        if text[at] == '"':
            if not is_quoted:
                break
            is_quoted = False
        elif text[at] == "'" and text[at + 1 : at + 2].isalnum():
            break
        at += 1
    return at


def _ends_line(text: str, at: int) -> bool:
    """Whether a line break ends a sentence: not in a wrapped paragraph, which goes on in lower case."""
    return not text[at : at + 1].islower()


def _ends_sentence(text: str, stop: "re.Match[str]", behind: int, start: int) -> bool:
    gap = _SPACE.match(text, behind)
    at = behind if gap is None else gap.end()
    following = text[at : at + 1]
    if not following or not _FULL.isdisjoint(stop[0]):
        return True
    is_apart = at > behind or _IS_CJK(following) is not None
    if not is_apart:
        return False
    is_closed = behind > stop.end()
    if "!" in stop[0] or "?" in stop[0]:
        return not (is_closed and following.islower())
    if following.islower():
        return False
    if len(stop[0]) > 1 or stop[0] == "…":
        # An ellipsis holds its breath, and goes on where nothing new begins.
        return at > behind
    return is_closed or not _is_within(text, stop.start(), start, at)


def _is_within(text: str, dot: int, start: int, at: int) -> bool:
    """Whether a single dot belongs to what stands before it: an abbreviation, or the number of a list."""
    found = _TOKEN.search(text[max(start, dot - _NEAR) : dot])
    token = "" if found is None else found[0].lower()
    if token.isdigit():
        return not text[start : dot - len(token)].strip() if dot - start <= _NEAR else False
    if token in _TITLES:
        return True
    if token in _COUNTED and text[at].isdigit():
        return True
    if token in _LAST or _INITIALS(token):
        word = _WORD.match(text, at, at + _NEAR)
        return word is not None and not _IS_CJK(word[0]) and word[0].lower() not in _STARTERS
    return False


# -- what is too long


def _shortened(sentence: str, longest: int) -> Iterator[str]:
    """Cut a sentence into parts that are short enough, each at the best place of its second half."""
    start = 0
    if len(sentence) > longest:
        atoms = _atoms(sentence)
        while len(sentence) - start > longest:
            end = _breath(sentence, start, longest, atoms)
            yield _bare(sentence[start:end])
            start = end
            while sentence[start : start + 1].isspace() and is_cut(sentence, start + 1):
                start += 1
    yield sentence[start:]


def _bare(part: str) -> str:
    """Without the white space around it; a space that bears a mark is no white space."""
    return part[cut_at_or_before(part, len(part) - len(part.lstrip())) :].rstrip()


def _breath(sentence: str, start: int, longest: int, atoms: dict[int, int]) -> int:
    limit = start + longest
    for breath in _BREATHS:
        for match in reversed(list(breath.finditer(sentence, start + longest // 2, limit))):
            if match.end() not in atoms and is_cut(sentence, match.end(), start):
                return match.end()
    return _forced(sentence, start, limit, atoms)


def _forced(sentence: str, start: int, limit: int, atoms: dict[int, int]) -> int:
    """Between two words at least, or between two characters."""
    at = limit
    while at > start and (at in atoms or not is_cut(sentence, at, start)):
        at = atoms[at] if at in atoms else cut_at_or_before(sentence, at - 1, start)
    if at > start:
        return at
    at = limit
    while at < len(sentence) and (at in atoms or not is_cut(sentence, at, start)):
        at += 1
    return at


def _atoms(sentence: str) -> dict[int, int]:
    """For each place within something that is not to be cut, where that begins."""
    inner: dict[int, int] = {}
    for atom in (_URL, _DOTTED, _NUMBER):
        for match in atom.finditer(sentence):
            for at in range(match.start() + 1, match.end()):
                inner[at] = min(inner.get(at, at), match.start())
    return inner
