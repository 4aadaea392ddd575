"""Who is where: connections and users as the live indexes know them, on every node. Soft state."""

import asyncio
from typing import Final, NamedTuple

from gateway import errors, ids
from gateway.auth.identity import Identity
from gateway.auth.policy import is_operator
from gateway.fanout.presence import Presence, PresentUser
from gateway.fanout.publish import Publisher
from gateway.protocol import replies
from gateway.protocol.codec import Fragment
from gateway.runtime.lives import Lives
from gateway.runtime.sessions import Sessions, translated
from store.live import Live
from store.records import Records
from store.types import ConnectionEntry, Cursor, Listing

# What is waited for the end of connections: their nodes write the indexes four times a second, and a client
# that does not answer the close is cut off later than that. Asked again in between, since hints may be lost.
LOOK_S: Final = 0.1
LOOKS: Final = 20
LOOKS_PER_ASKING: Final = 5


class Delivery(NamedTuple):
    """How far each member has received and read, who has not begun with zeros; `head`: how far one can."""

    head: int
    cursors: list[Cursor]


class Ending(NamedTuple):
    """How many connections there were, and how many of them are open still."""

    connections: int
    open: int


class Whereabouts:
    """Asked for a session by those who may read it; for a user by themselves and operators of the tenant.

    Unavailable (of store.errors): the indexes are away.
    """

    def __init__(
        self,
        sessions: Sessions,
        records: Records,
        presence: Presence,
        live: Live,
        lives: Lives,
        publisher: Publisher,
    ) -> None:
        self._sessions = sessions
        self._records = records
        self._presence = presence
        self._live = live
        self._lives = lives
        self._publisher = publisher

    async def present(self, identity: Identity, session: str) -> list[PresentUser]:
        """The users who are there, by time of arrival."""
        await self._sessions.readable(identity, session)
        return await self._presence.users(identity.tenant, session)

    async def connections(self, identity: Identity, session: str) -> list[ConnectionEntry]:
        """The connections that are attached, oldest first."""
        await self._sessions.readable(identity, session)
        return await self._live.connections_of_session(identity.tenant, session)

    async def delivery(self, identity: Identity, session: str) -> Delivery:
        """How far everybody has come."""
        head = (await self._sessions.get(identity, session)).session.head
        known = {cursor.user: cursor for cursor in await self._sessions.cursors(identity, session)}
        members = await self._sessions.members(identity, session)
        none_of = [Cursor(user=member.user, delivered=0, read=0) for member in members]
        return Delivery(head, [known.get(cursor.user, cursor) for cursor in none_of])

    async def beat(self, identity: Identity, session: str) -> int | None:
        """Show life for a session without a connection; how long it lives from here on. None: for ever."""
        found = (await self._sessions.attachable(identity, session)).session
        with translated():
            return await self._lives.extend(found)

    async def connection(self, identity: Identity, connection: str) -> ConnectionEntry:
        """A connection by its id."""
        entry = await self._live.connection(identity.tenant, connection) if ids.is_id(connection) else None
        if entry is None or not _may_see(identity, entry.user):
            raise errors.NotFound("there is no such connection, or it is not yours")
        return entry

    async def connections_of_user(self, identity: Identity, user: str) -> list[ConnectionEntry]:
        """A user's connections, oldest first."""
        _check_user(identity, user)
        return await self._live.connections_of_user(identity.tenant, user)

    async def sessions_of_user(
        self, identity: Identity, user: str, before: tuple[int, str] | None, limit: int
    ) -> list[Listing]:
        """A user's sessions that have not ended, latest first."""
        _check_user(identity, user)
        with translated():
            return await self._records.list_for(identity.tenant, user, before=before, limit=limit)

    async def disconnect(self, identity: Identity, connection: str) -> Ending:
        """Close one connection, on whichever node it is."""
        return await self._end([await self.connection(identity, connection)], connection)

    async def disconnect_user(self, identity: Identity, user: str) -> Ending:
        """Close all connections of a user, on every node."""
        return await self._end(await self.connections_of_user(identity, user))

    async def _end(self, entries: list[ConnectionEntry], connection: str = "") -> Ending:
        """Ask their nodes until the indexes know them no more, or it has taken too long."""
        left = list(entries)
        for turn in range(LOOKS):
            if not left:
                break
            if turn % LOOKS_PER_ASKING == 0:
                # Again after a while: the bus may have lost it.
                self._publisher.disconnect(left[0].tenant, left[0].user, connection)
            await asyncio.sleep(LOOK_S)
            found = await self._live.connections_of_user(left[0].tenant, left[0].user)
            known = {entry.id for entry in found}
            left = [entry for entry in left if entry.id in known]
        return Ending(len(entries), len(left))

    def signal(self, identity: Identity, user: str, name: str, data: bytes) -> None:
        """Tell all connections of a user something that nobody stores; who hears it is not known."""
        _check_user(identity, user)
        self._publisher.user_signal(identity.tenant, user, replies.user_signal(user, name, Fragment(data)))


def _may_see(identity: Identity, user: str) -> bool:
    return user == identity.user or is_operator(identity)


def _check_user(identity: Identity, user: str) -> None:
    """NotFound: whoever is not you does not exist, but for operators."""
    if not (ids.is_name(user) and _may_see(identity, user)):
        raise errors.NotFound("there is no such user, or it is not you")
