"""Searching: the way from a question to a page of messages, the same over every index.

Messages are indexed in blocks, by the search that first needs it: what nobody searches costs an append
nothing. A call indexes and reads so much at most, and says where the next one goes on.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from store.errors import Unavailable
from store.matching import EVERY, asked_grams, grams_of, is_match, key_of
from store.types import Message, Value

# A block ends at whichever comes first. Larger ones make a smaller index that says yes more often.
BLOCK_MESSAGES: Final = 32
BLOCK_CHARACTERS: Final = 4_096
# A message of 64 KiB without sense has that many; an index would grow by more than the message.
GRAMS: Final = 8_192
# Read at once, and indexed or examined in one call: some 10 ms, and some 200 ms, of a processor.
ROWS_AT_ONCE: Final = 8 * BLOCK_MESSAGES
INDEXED: Final = 2 * ROWS_AT_ONCE
EXAMINED: Final = 64
# What the messages of a page may hold together; the one that passes it is the last.
PAGE_CHARACTERS: Final = 128 * 1024
# Searches under way, and such as wait for them: the log has more to do than this.
AT_ONCE: Final = 2
WAITING: Final = 64
_LAST: Final = str(UUID(int=2**128 - 1))


class Search(Value, frozen=True, kw_only=True):
    """Who looks for what: in one session of theirs, ended or not, or in all that have not ended.

    Messages come by `id` descending, which is newest first, behind `before`. `terms`: of store.matching.
    """

    tenant: str
    user: str
    terms: tuple[str, ...]
    limit: int
    session: str | None = None
    before: str | None = None


class Found(Value, frozen=True, kw_only=True):
    """A page. `before` goes on from it, also where it is empty; None: there is nothing more."""

    messages: list[Message]
    before: str | None


class Place(NamedTuple):
    """How far a session is indexed."""

    session: str
    head: int
    indexed: int


class Range(NamedTuple):
    """Messages of a session that are read: `limit` of them behind a seq."""

    session: str
    after: int
    limit: int


class Block(NamedTuple):
    """Successive messages of a session: as many as were new, and fit. It never changes."""

    session: str
    first: int
    last: int
    newest: str
    oldest: str
    grams: list[int]


class Candidate(NamedTuple):
    """A block that may hold matches, none of them newer than `newest`."""

    newest: str
    session: str
    first: int
    last: int


class Question(NamedTuple):
    """What an index is asked: the sessions, and grams that all must be in a block, or EVERY alone."""

    sessions: Sequence[str]
    grams: list[int]
    before: str
    limit: int


class Index(Protocol):
    """What a backend does for a search; each call is one bounded statement or job."""

    async def places(self, search: Search) -> list[Place]:
        """The sessions that are searched; none that is another's."""

    async def messages(self, ranges: Sequence[Range]) -> list[list[Message]]:
        """The messages of each range, ascending."""

    async def put(self, blocks: Sequence[Block]) -> None:
        """Store blocks, but for those in whose place there is one."""

    async def candidates(self, question: Question) -> list[Candidate]:
        """Blocks with a message before `before`, by `newest` descending."""


class Searcher:
    """Answers searches, a few at a time. Unavailable: too many wait already, or the backend failed."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._places = asyncio.Semaphore(AT_ONCE)
        self._count = 0

    async def search(self, search: Search) -> Found:
        """Find a page, or a part of one."""
        if self._count >= AT_ONCE + WAITING:
            raise Unavailable(f"{self._count} searches are under way or wait already")
        self._count += 1
        try:
            async with self._places:
                return await self._search(search)
        finally:
            self._count -= 1

    async def _search(self, search: Search) -> Found:
        before = search.before or _LAST
        places = await self._index.places(search)
        if not places or search.limit < 1:
            return Found(messages=[], before=None)
        if not await self._bring_up_to_date(search, places):
            return Found(messages=[], before=before)
        sessions = [place.session for place in places]
        question = Question(sessions, asked_grams(search.terms), before, EXAMINED + 1)
        return await self._examine(search, before, await self._index.candidates(question))

    async def _bring_up_to_date(self, search: Search, places: Sequence[Place]) -> bool:
        """Index up to where the sessions stand, as much as one call may; whether nothing is left."""
        heads = {place.session: place.head for place in places}
        rows = 0
        while behind := [place for place in places if place.indexed < heads.get(place.session, 0)]:
            if rows >= INDEXED:
                return False
            ranges = _ranges(behind, heads)
            pages = await self._index.messages(ranges)
            await self._index.put(await asyncio.to_thread(_blocks, pages, heads))
            rows += sum(map(len, pages))
            for gone in (each.session for each, page in zip(ranges, pages, strict=True) if not page):
                del heads[gone]
            # Asked again: where another node has just put a shorter block, there is more to do behind it.
            places = await self._index.places(search)
        return True

    async def _examine(self, search: Search, before: str, candidates: list[Candidate]) -> Found:
        """Hold candidates against the rule until a page is sure: nothing unread is newer than its last."""
        hits: dict[str, Message] = {}
        page: list[Message] = []
        horizon, at = "", 0
        while at < min(len(candidates), EXAMINED):
            group = candidates[at : at + ROWS_AT_ONCE // BLOCK_MESSAGES]
            at += len(group)
            ranges = [Range(block.session, block.first - 1, block.last - block.first + 1) for block in group]
            pages = await self._index.messages(ranges)
            hits |= await asyncio.to_thread(_matches, pages, search.terms, before)
            horizon = candidates[at].newest if at < len(candidates) else ""
            sure = sorted((id for id in hits if id > horizon), reverse=True)
            page = _page([hits[id] for id in sure], search.limit)
            if len(page) == search.limit or len(page) < len(sure):
                is_last = not horizon and len(page) == len(sure)
                return Found(messages=page, before=None if is_last else page[-1].id)
        return Found(messages=page, before=_behind(horizon) if horizon else None)


def _behind(id: str) -> str:
    """The bound that lets this message in as the first."""
    return str(UUID(int=UUID(id).int + 1))


def _ranges(behind: Sequence[Place], heads: Mapping[str, int]) -> list[Range]:
    """What of these to read next."""
    ranges: list[Range] = []
    left = ROWS_AT_ONCE
    for place in behind:
        ranges.append(Range(place.session, place.indexed, min(heads[place.session] - place.indexed, left)))
        left -= ranges[-1].limit
        if not left:
            break
    return ranges


def _blocks(pages: Sequence[list[Message]], heads: Mapping[str, int]) -> list[Block]:
    blocks: list[Block] = []
    for page in pages:
        groups = _groups(page)
        if len(groups) > 1 and page[-1].seq < heads[page[-1].session]:
            groups.pop()  # cut off by our reading, and read again with what comes behind it
        blocks += map(_block, groups)
    return blocks


def _groups(page: list[Message]) -> list[list[Message]]:
    groups: list[list[Message]] = []
    size = 0
    for message in page:
        size += len(message.content)
        if not groups or len(groups[-1]) == BLOCK_MESSAGES or size > BLOCK_CHARACTERS:
            groups.append([])
            size = len(message.content)
        groups[-1].append(message)
    return groups


def _block(messages: list[Message]) -> Block:
    session = messages[0].session
    grams = grams_of(message.content for message in messages)
    if len(grams) > GRAMS:
        grams = {EVERY}
    ids = [message.id for message in messages]
    kept = sorted({*grams, key_of(session)})
    return Block(session, messages[0].seq, messages[-1].seq, max(ids), min(ids), kept)


def _matches(pages: Sequence[list[Message]], terms: Sequence[str], before: str) -> dict[str, Message]:
    return {
        message.id: message
        for page in pages
        for message in page
        if message.id < before and is_match(message.content, terms)
    }


def _page(hits: list[Message], limit: int) -> list[Message]:
    """As many as fit; one at least."""
    page: list[Message] = []
    characters = 0
    for hit in hits[:limit]:
        page.append(hit)
        characters += len(hit.content)
        if characters >= PAGE_CHARACTERS:
            break
    return page
