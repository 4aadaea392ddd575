"""Who is in a session.

A user joins with the first and leaves with the last of their connections, wherever those live.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.fanout.publish import Publisher
from gateway.protocol import replies
from store.errors import Unavailable
from store.live import Live
from store.types import ConnectionEntry

# A reload of the page is no leave: a user who is back within this time was never gone.
GRACE_S: Final = 5.0
# Departures that wait for their grace to end. Above this many the oldest is announced early, and while the
# index is away not at all: whoever asks who is there is told the truth when it is back.
WAITING_LIMIT: Final = 10_000
# Leaves that are looked into at the same time: when a node has lost all its clients there are thousands.
TOGETHER: Final = 100


# Told of a tenant, a session and the user who has left it.
OnLeave = Callable[[str, str, str], None]


class PresentUser(msgspec.Struct, frozen=True):
    """A user in a session: with how many connections, since when (epoch ms)."""

    user: str
    connections: int
    since: int


class Presence:
    """Announces joins and leaves from the live index.

    The index being away costs announcements, nothing else.
    """

    def __init__(
        self, live: Live, publisher: Publisher, monotonic: Callable[[], float], on_leave: OnLeave
    ) -> None:
        self._live = live
        self._publisher = publisher
        self._monotonic = monotonic
        self._on_leave = on_leave
        self._leaving: dict[tuple[str, str, str], float] = {}

    async def users(self, tenant: str, session: str) -> list[PresentUser]:
        """Who is there, by time of arrival."""
        users: dict[str, PresentUser] = {}
        for entry in await self._live.connections_of_session(tenant, session):
            known = users.get(entry.user)
            count = known.connections + 1 if known else 1
            since = min(known.since, entry.since) if known else entry.since
            users[entry.user] = PresentUser(entry.user, count, since)
        return sorted(users.values(), key=lambda present: (present.since, present.user))

    def joined(self, entry: ConnectionEntry, session: str) -> None:
        """Announce a user who came into the session with this connection, as the index says.

        Who was away for less than the grace, or only moved, is in it still.
        """
        frame = replies.presence_event(session, "join", entry.user, 1)
        self._publisher.signal(session, frame, but=entry.id)

    def left(self, tenant: str, session: str, user: str) -> None:
        """Note that a connection of the user has gone.

        The leave is announced after the grace, if it was the last.
        """
        # The last to go counts; out and in again keeps the dict in the order of time.
        self._leaving.pop((tenant, session, user), None)
        self._leaving[tenant, session, user] = self._monotonic() + GRACE_S

    async def announce_leaves(self) -> None:
        """Announce those whose grace is over. Called about once a second."""
        now = self._monotonic()
        excess = len(self._leaving) - WAITING_LIMIT
        due = [key for index, (key, at) in enumerate(self._leaving.items()) if at <= now or index < excess]
        for start in range(0, len(due), TOGETHER):
            await asyncio.gather(*map(self._announce_leave, due[start : start + TOGETHER]))

    async def _announce_leave(self, key: tuple[str, str, str]) -> None:
        at = self._leaving.pop(key, None)
        if at is None:
            return  # gone once more while others were asked about, and told early
        tenant, session, user = key
        try:
            if await self._live.leave(tenant, session, user):
                self._on_leave(tenant, session, user)
                self._publisher.signal(session, replies.presence_event(session, "leave", user, 0))
        except Unavailable:
            # Later; unless they have gone once more meanwhile, which counts from then.
            if len(self._leaving) < WAITING_LIMIT:
                self._leaving.setdefault(key, at)
