"""How a connection becomes a reader of a session."""

from typing import TYPE_CHECKING

from gateway import errors
from gateway.protocol import replies
from store.types import Access

if TYPE_CHECKING:
    from gateway.fanout.room import Room
    from gateway.runtime.connection import Connection


async def attach(connection: "Connection", session: str, since: int | None, request_id: str | None) -> None:
    """Attach and answer `attached`; history after `since` follows, then what happens. Again.

    The cursor is set anew.
    """
    node = connection.node
    identity = connection.caller
    if session not in connection.attachments and len(connection.attachments) >= node.limits.attachments:
        raise errors.LimitReached(f"{node.limits.attachments} attachments are allowed: detach one first")

    async def look() -> Access:
        # Subscribed by now: whatever is committed after this read is heard of.
        return await node.sessions.live_access(identity.tenant, identity.user, session)

    access = await look()  # before anything is subscribed for somebody who has no right to it
    _check_cursor(since, access.session.head)  # and before anything is taken from whoever holds it
    epoch: int | None = None
    if access.session.exclusive and access.role != "reader":
        epoch = await node.sessions.take_over(identity.tenant, session, connection.of_client)
    room, access = await node.hub.open(session, look)
    if connection.is_over:
        return
    was_here = any(other.reader.user == connection.user for other in room.attachments.values())
    _admit(connection, room, access, since, epoch, request_id)
    await node.leases.assert_now(connection)
    if session in connection.attachments:
        await node.presence.joined(connection.entry, session, was_here=was_here)


def _check_cursor(since: int | None, head: int) -> None:
    if since is not None and since > head:
        raise errors.BadRequest(f"since is {since}, but the session has only {head} messages")


def _admit(
    connection: "Connection",
    room: "Room",
    access: Access,
    since: int | None,
    epoch: int | None,
    request_id: str | None,
) -> None:
    """Put the connection into the room, in one loop turn with the room's opening."""
    node = connection.node
    head = max(room.relay.head, access.session.head)
    if room.relay.heard(head):
        node.hub.mend(room)
    if epoch is not None and access.session.epoch > epoch:
        raise errors.Superseded("another attachment has taken this session over in the meantime")
    _check_cursor(since, head)
    earlier = connection.attachments.get(room.id)
    cursor = head if since is None else since
    attachment = node.hub.attach(room, connection, cursor, access, epoch)
    connection.attachments[room.id] = attachment
    attachment.replay.behind(head)  # the room may still be reading what it missed itself
    connection.seen[room.id] = cursor
    if earlier is not None and earlier.room is not room:
        node.hub.detach(earlier, node.clock.monotonic())
    connection.outlet.put(replies.attached(request_id, access, head, cursor, room.state))
    node.hub.catch_up(attachment)
