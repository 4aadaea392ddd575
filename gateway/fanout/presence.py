"""Who is in a session.

A user joins with the first and leaves with the last of their connections, wherever those live.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.fanout.publish import Publisher
from gateway.protocol import replies
from store.errors import Unavailable
from store.live import Leave, Live
from store.types import ConnectionEntry

# A reload of the page is no leave: a user who is back within this time was never gone.
GRACE_S: Final = 5.0
# Departures that wait for their grace to end. Above this many the oldest is announced early, and while the
# index is away not at all: whoever asks who is there is told the truth when it is back.
WAITING_LIMIT: Final = 10_000
# Leaves that are looked into at the same time: when a node has lost all its clients there are thousands.
TOGETHER: Final = 100
# A note outlives the grace, and the time until others find out that a node was lost.
NOTE_MS: Final = 60_000


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
        self,
        live: Live,
        publisher: Publisher,
        monotonic: Callable[[], float],
        life: Callable[[], str],
        on_leave: OnLeave,
    ) -> None:
        self._live = live
        self._publisher = publisher
        self._monotonic = monotonic
        self._on_leave = on_leave
        self._life = life  # of this node, under which others find what it could not tell any more
        self._leaving: dict[Leave, float] = {}
        self._unnoted: set[Leave] = set()

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
        self._unnoted.add((tenant, session, user))

    @property
    def is_owing(self) -> bool:
        """Whether there are leaves that are not announced yet."""
        return bool(self._leaving)

    async def note(self) -> None:
        """Note in the indexes who is about to be announced: others do it if this node dies. Unavailable.

        Before their connections are taken out: from then on nothing else there tells of them.
        """
        if not self._unnoted:
            return
        unnoted, self._unnoted = self._unnoted, set()
        try:
            noted = [key for key in unnoted if key in self._leaving]
            await self._live.note_leaving(self._life(), noted, lease_ms=NOTE_MS)
        except (Unavailable, asyncio.CancelledError):
            self._unnoted |= unnoted & self._leaving.keys()
            raise

    async def lost(self, leaves: Sequence[Leave]) -> None:
        """Announce who has left with a node that was lost, unless they are elsewhere. Unavailable."""
        for start in range(0, len(leaves), TOGETHER):
            asked = (self._leave(*leave) for leave in leaves[start : start + TOGETHER])
            for outcome in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def announce_leaves(self) -> None:
        """Announce those whose grace is over. Called about once a second."""
        now = self._monotonic()
        excess = len(self._leaving) - WAITING_LIMIT
        due = [key for index, (key, at) in enumerate(self._leaving.items()) if at <= now or index < excess]
        for start in range(0, len(due), TOGETHER):
            part = due[start : start + TOGETHER]
            await asyncio.gather(*map(self._announce_leave, part))
            # Who has gone once more meanwhile is noted for that.
            told = [key for key in part if key not in self._leaving]
            try:
                await self._live.drop_leaving(self._life(), told)
            except Unavailable:
                continue  # a note that stays expires; whoever finds it asks whether it is so

    async def _leave(self, tenant: str, session: str, user: str) -> None:
        if await self._live.leave(tenant, session, user):
            self._on_leave(tenant, session, user)
            self._publisher.signal(session, replies.presence_event(session, "leave", user, 0))

    async def _announce_leave(self, key: Leave) -> None:
        at = self._leaving.pop(key, None)
        if at is None:
            return  # gone once more while others were asked about, and told early
        try:
            await self._leave(*key)
        except Unavailable:
            # Later; unless they have gone once more meanwhile, which counts from then.
            if len(self._leaving) < WAITING_LIMIT:
                self._leaving.setdefault(key, at)
