"""Who is in a session.

A user joins with the first and leaves with the last of their connections, wherever those live.
"""

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
# Departures that wait for their grace to end. Above this many the oldest is announced early.
WAITING_LIMIT: Final = 10_000


class PresentUser(msgspec.Struct, frozen=True):
    """A user in a session: with how many connections, since when (epoch ms)."""

    user: str
    connections: int
    since: int


class Presence:
    """Announces joins and leaves from the live index.

    The index being away costs announcements, nothing else.
    """

    def __init__(self, live: Live, publisher: Publisher, monotonic: Callable[[], float]) -> None:
        self._live = live
        self._publisher = publisher
        self._monotonic = monotonic
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

    async def joined(self, entry: ConnectionEntry, session: str, *, was_here: bool) -> None:
        """Announce a user whose first connection this is; the index must hold the connection already.

        `was_here`: another connection of theirs was attached to the session on this node before.
        """
        was_leaving = self._leaving.pop((entry.tenant, session, entry.user), None) is not None
        if was_here or was_leaving:
            return
        try:
            theirs = await self._of_user(entry.tenant, session, entry.user)
        except Unavailable:
            return
        # Of connections that arrive at other nodes at the same moment all see each other: the first by age,
        # then id, speaks. Those of this node came later.
        rivals = [other for other in theirs if other.node != entry.node or other.id == entry.id]
        if rivals and min(rivals, key=lambda other: (other.since, other.id)).id == entry.id:
            frame = replies.presence_event(session, "join", entry.user, len(theirs))
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
        for tenant, session, user in due:
            if self._leaving.pop((tenant, session, user), None) is None:
                continue  # back again while we asked about others
            try:
                theirs = await self._of_user(tenant, session, user)
            except Unavailable:
                continue
            if not theirs:
                self._publisher.signal(session, replies.presence_event(session, "leave", user, 0))

    async def _of_user(self, tenant: str, session: str, user: str) -> list[ConnectionEntry]:
        # By the user, who has ten connections, and not by the session, which may have thousands: when all of
        # them come back at once, each asks.
        entries = await self._live.connections_of_user(tenant, user)
        return [entry for entry in entries if session in entry.sessions]
