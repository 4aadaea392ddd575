"""Messages as callers read them: pages of a session's history, bounded in number and in bytes."""

from typing import Final, NamedTuple

from gateway.auth.identity import Identity
from gateway.runtime.sessions import Sessions, translated
from store.records import Records
from store.types import Message

# One answer of history ends early, with `more`, when it has grown to this.
PAGE_BYTES: Final = 512 * 1024
_STEP: Final = 50


class Page(NamedTuple):
    """Messages in the order of seq. `more`: there are others in the direction that was asked for."""

    messages: list[Message]
    more: bool


class History:
    """Reads pages through the cache. Who may read them has been asked before."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def after(self, session: str, after: int, limit: int) -> Page:
        """The first messages behind a seq."""
        page: list[Message] = []
        size = 0
        while len(page) < limit and size < PAGE_BYTES:
            step = min(_STEP, limit - len(page))
            # One more than is due tells whether there is more.
            read = await self._records.read(session, after=page[-1].seq if page else after, limit=step + 1)
            page += read[:step]
            size += _size(read[:step])
            if len(read) <= step:
                return Page(page, False)
        return Page(page, True)

    async def before(self, session: str, before: int, limit: int) -> Page:
        """The last messages before a seq."""
        page: list[Message] = []
        size = 0
        while len(page) < limit and size < PAGE_BYTES:
            step = min(_STEP, limit - len(page))
            earlier = await self._records.read_before(
                session, before=page[0].seq if page else before, limit=step
            )
            page = earlier + page
            size += _size(earlier)
            if len(earlier) < step:
                break
        return Page(page, bool(page) and page[0].seq > 1)


class Messages:
    """The messages of one session, for those who have the right to them."""

    def __init__(self, sessions: Sessions, records: Records) -> None:
        self._sessions = sessions
        self._history = History(records)

    async def page(
        self, identity: Identity, session: str, *, before: int | None, after: int | None, limit: int
    ) -> Page:
        """Those behind `after`, or before `before`; neither: the latest."""
        if after is not None:
            await self._sessions.readable(identity, session)
            with translated():
                return await self._history.after(session, after, limit)
        if before is None:
            before = (await self._sessions.get(identity, session)).session.head + 1
        else:
            await self._sessions.readable(identity, session)
        with translated():
            return await self._history.before(session, before, limit)


def _size(messages: list[Message]) -> int:
    return sum(len(message.content) + len(message.metadata) for message in messages)
