"""Searching for messages: the calls that make a page, and the snippets in it."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.text.snippets import Part, snippet
from store.log import Log
from store.search import Search
from store.types import Message

# Calls of the log find nothing, but more to look through: after this long the caller is told so, and goes on.
PAGE_S: Final = 1.0


class Query(NamedTuple):
    """What is asked for: the terms, behind which message (None: from the newest on), and how many."""

    terms: tuple[str, ...]
    before: str | None
    limit: int

    def search(self, tenant: str, user: str, session: str | None) -> Search:
        """The same for whoever asks."""
        return Search(
            tenant=tenant,
            user=user,
            session=session,
            terms=self.terms,
            before=self.before,
            limit=self.limit,
        )


class Hit(NamedTuple):
    """A message that was found, and the part of it to show."""

    message: Message
    snippet: list[Part]


class Matches(NamedTuple):
    """A page, newest first. `before` goes on from it, also where it is empty; None: there is nothing more."""

    hits: list[Hit]
    before: str | None


async def search_page(log: Log, search: Search) -> Matches:
    """Call the log until something is found, the time is over, or there is nothing more."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PAGE_S
    found = await log.search(search)
    while not found.messages and found.before is not None and loop.time() < deadline:
        found = await log.search(msgspec.structs.replace(search, before=found.before))
    # A long message that is not in ASCII takes milliseconds to look through.
    return Matches(await asyncio.to_thread(_hits, found.messages, search.terms), found.before)


def _hits(messages: Sequence[Message], terms: Sequence[str]) -> list[Hit]:
    return [Hit(message, snippet(message.content, terms)) for message in messages]
