"""How a connection becomes a reader of a session."""

from typing import TYPE_CHECKING

import msgspec

from gateway import errors
from gateway.protocol import replies
from store.types import Access, Session

if TYPE_CHECKING:
    from gateway.fanout.room import Attachment, Room
    from gateway.runtime.connection import Connection


async def enter(
    connection: "Connection",
    session: str,
    since: int | None,
    request_id: str | None,
    held: int | None = None,
) -> None:
    """Attach and answer `attached`; history after `since` follows, then what happens.

    Again: the cursor is set anew. The indexes are not told yet: `arrived` does. `held` is the epoch under
    which a resumed client held the session: it is not taken from whoever has raised it since; Superseded.
    """
    node = connection.node
    if session not in connection.attachments and len(connection.attachments) >= node.limits.attachments:
        raise errors.LimitReached(f"{node.limits.attachments} attachments are allowed: detach one first")
    look = _Look(connection, session, since, held)
    try:
        # Subscribed before the one reading there is: whatever is committed after it is heard of. Who has no
        # right to the session costs a subscription for as long as the reading takes, and hears nothing.
        room, access = await node.hub.open(session, look)
        if connection.is_over:
            return
        _admit(connection, room, look, access, request_id)
    except errors.Superseded:
        node.leases.holdings.lose(connection, session)
        raise
    finally:
        look.over()
    # From here on whatever writes the indexes may bring the user in; `arrived` tells of it.
    node.leases.arriving(connection, session)


async def tell_lost(connection: "Connection", session: str) -> None:
    """Tell a client that somebody else has taken a session over.

    Its record keeps that until it must have heard. Unavailable, NotFound, or the session has ended.
    """
    node, identity = connection.node, connection.caller
    access = await node.sessions.live_access(identity.tenant, identity.user, session)
    node.leases.holdings.lose(connection, session)
    connection.outlet.put(replies.session_event(session, access.session.version, "superseded"))


async def arrived(connection: "Connection") -> None:
    """Tell the indexes of what the connection has attached to; they say where its user is new."""
    if not connection.is_over:
        await connection.node.leases.assert_now(connection)


class _Look:
    """Reads what the connection may do in the session; takes an exclusive one over, once."""

    def __init__(self, connection: "Connection", session: str, since: int | None, held: int | None) -> None:
        self._connection = connection
        self._session = session
        self._held = held
        self.since = since
        self.epoch: int | None = None
        self._taking: list[Attachment] = []

    async def __call__(self) -> Access:
        connection = self._connection
        node, identity = connection.node, connection.caller
        access = await node.sessions.live_access(identity.tenant, identity.user, self._session)
        check_cursor(self.since, access.session.head)  # before anything is taken from whoever holds it
        is_to_take = access.session.exclusive and access.role != "reader" and self.epoch is None
        if is_to_take and not connection.is_closed:
            self.epoch = await self._take(access.session)
            return msgspec.structs.replace(
                access, session=msgspec.structs.replace(access.session, epoch=self.epoch)
            )
        return access

    async def _take(self, found: Session) -> int:
        connection, is_held = self._connection, self._held is not None
        node = connection.node
        if self._held is not None and found.epoch > self._held:
            raise errors.Superseded("somebody else has taken this session over")
        is_known = node.leases.holdings.raising(connection, self._session, found.epoch + 1)
        if is_known and not is_held:
            # Before it is raised: a record that knows only the epoch before would take us for somebody else.
            await node.leases.record_now(connection)
        self._spare()
        return await node.sessions.take_over(found, connection.of_client, is_held)

    def _spare(self) -> None:
        """Have the attachments of this client not turned out by the epoch it is about to raise itself."""
        connections = self._connection.node.connections
        for name in self._connection.of_client:
            other = connections.get(name)
            attachment = None if other is None else other.attachments.get(self._session)
            if attachment is not None:
                attachment.is_taking_over = True
                self._taking.append(attachment)

    def over(self) -> None:
        """The attempt is over, whatever came of it: turn out who was spared for it and is outdated."""
        for attachment in self._taking:
            attachment.is_taking_over = False
            room = attachment.room
            # By somebody else: an epoch of our own is yet to be told to whoever is of this client.
            if room.has_outdated and room.epoch > (self.epoch or 0):
                frame = replies.session_event(room.id, room.versions.told, "superseded")
                self._connection.node.hub.supersede(room, frame, room.epoch)


def check_cursor(since: int | None, head: int) -> None:
    """BadRequest for a cursor that the session does not have."""
    if since is not None and since > head:
        raise errors.BadRequest(f"since is {since}, but the session has only {head} messages")


def _admit(
    connection: "Connection", room: "Room", look: _Look, access: Access, request_id: str | None
) -> None:
    """Put the connection into the room, in one loop turn with the room's opening."""
    node = connection.node
    head = max(room.relay.head, access.session.head)
    room.relay.heard(head)
    room.versions.heard(access.session.version)
    node.hub.mender.look(room)
    if look.epoch is not None and max(access.session.epoch, room.epoch) > look.epoch:
        raise errors.Superseded("another attachment has taken this session over in the meantime")
    check_cursor(look.since, head)
    earlier = connection.attachments.get(room.id)
    cursor = head if look.since is None else look.since
    attachment = node.hub.attach(room, connection, cursor, access, look.epoch)
    connection.attachments[room.id] = attachment
    room.is_touched = True  # a sign of use: the first heartbeat may be later than the end of its TTL
    attachment.replay.behind(head)  # the room may still be reading what it missed itself
    connection.seen[room.id] = cursor
    node.leases.holdings.settle(connection, room.id)
    if earlier is not None and earlier.room is not room:
        node.hub.detach(earlier)
    connection.outlet.put(replies.attached(request_id, access, head, cursor, room.state))
    node.hub.catch_up(attachment)
