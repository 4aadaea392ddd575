"""Sessions, messages and events as HTTP callers reach them: no call waits longer than a frame would."""

from gateway.api.services import MessageService, SessionService, WhereaboutsService
from gateway.auth.identity import Identity
from gateway.fanout.presence import PresentUser
from gateway.runtime.health import Health
from gateway.runtime.messages import NewMessage, Page, Posted
from gateway.runtime.patience import limited
from gateway.runtime.searching import Matches, Query
from gateway.runtime.sessions import SessionSpec, Sight
from gateway.runtime.whereabouts import Delivery, Ending
from store.log import Log
from store.types import Change, ConnectionEntry, Cursor, EventPage, Listing, Member, Role, Session


class BoundedSessions:
    """Writes are refused at once while the log is known to be away; reads may yet be in the cache."""

    def __init__(self, sessions: SessionService, health: Health) -> None:
        self._sessions = sessions
        self._health = health

    async def create(self, identity: Identity, spec: SessionSpec) -> Session:
        async with limited(self._health):
            return await self._sessions.create(identity, spec)

    async def get(self, identity: Identity, session: str) -> Sight:
        async with limited():
            return await self._sessions.get(identity, session)

    async def delete(self, identity: Identity, session: str) -> Session:
        async with limited(self._health):
            return await self._sessions.delete(identity, session)

    async def update(
        self, identity: Identity, session: str, change: Change, expected_version: int | None = None
    ) -> Session:
        async with limited(self._health):
            return await self._sessions.update(identity, session, change, expected_version)

    async def list_for(self, identity: Identity, before: tuple[int, str] | None, limit: int) -> list[Listing]:
        async with limited():
            return await self._sessions.list_for(identity, before, limit)

    async def segment(self, identity: Identity, session: str) -> Session:
        async with limited(self._health):
            return await self._sessions.segment(identity, session)

    async def search(self, identity: Identity, session: str | None, query: Query) -> Matches:
        async with limited(self._health):
            return await self._sessions.search(identity, session, query)

    async def members(self, identity: Identity, session: str) -> list[Member]:
        async with limited():
            return await self._sessions.members(identity, session)

    async def cursors(self, identity: Identity, session: str) -> list[Cursor]:
        async with limited():
            return await self._sessions.cursors(identity, session)

    async def put_member(self, identity: Identity, session: str, user: str, role: Role) -> Session:
        async with limited(self._health):
            return await self._sessions.put_member(identity, session, user, role)

    async def remove_member(self, identity: Identity, session: str, user: str) -> Session:
        async with limited(self._health):
            return await self._sessions.remove_member(identity, session, user)


class BoundedMessages:
    """What is read may be in the cache while the log is away; writes have the committer's own time."""

    def __init__(self, messages: MessageService, health: Health) -> None:
        self._messages = messages
        self._health = health

    async def post(self, identity: Identity, session: str, new: NewMessage) -> Posted:
        async with limited(self._health):
            return await self._messages.post(identity, session, new)

    async def page(
        self, identity: Identity, session: str, *, before: int | None, after: int | None, limit: int
    ) -> Page:
        async with limited():
            return await self._messages.page(identity, session, before=before, after=after, limit=limit)


class BoundedWhereabouts:
    """The indexes have a limit of time of their own; rights are asked of the log."""

    def __init__(self, whereabouts: WhereaboutsService, health: Health) -> None:
        self._whereabouts = whereabouts
        self._health = health
        self.signal = whereabouts.signal

    async def present(self, identity: Identity, session: str) -> list[PresentUser]:
        async with limited():
            return await self._whereabouts.present(identity, session)

    async def connections(self, identity: Identity, session: str) -> list[ConnectionEntry]:
        async with limited():
            return await self._whereabouts.connections(identity, session)

    async def delivery(self, identity: Identity, session: str) -> Delivery:
        async with limited():
            return await self._whereabouts.delivery(identity, session)

    async def beat(self, identity: Identity, session: str) -> int | None:
        async with limited(self._health):
            return await self._whereabouts.beat(identity, session)

    async def connection(self, identity: Identity, connection: str) -> ConnectionEntry:
        async with limited():
            return await self._whereabouts.connection(identity, connection)

    async def disconnect(self, identity: Identity, connection: str) -> Ending:
        async with limited():
            return await self._whereabouts.disconnect(identity, connection)

    async def disconnect_user(self, identity: Identity, user: str) -> Ending:
        async with limited():
            return await self._whereabouts.disconnect_user(identity, user)

    async def connections_of_user(self, identity: Identity, user: str) -> list[ConnectionEntry]:
        async with limited():
            return await self._whereabouts.connections_of_user(identity, user)

    async def sessions_of_user(
        self, identity: Identity, user: str, before: tuple[int, str] | None, limit: int
    ) -> list[Listing]:
        async with limited():
            return await self._whereabouts.sessions_of_user(identity, user, before, limit)


class BoundedEvents:
    """Refused at once while the log is known to be away: nothing of it is cached."""

    def __init__(self, log: Log, health: Health) -> None:
        self._log = log
        self._health = health

    async def of(self, tenant: str, after: int, limit: int) -> EventPage:
        async with limited(self._health):
            return await self._log.events_of(tenant, after=after, limit=limit)
