"""Requests that have to be awaited, one at a time per connection."""

from typing import TYPE_CHECKING

from gateway import errors
from gateway.protocol import frames, replies
from gateway.runtime import greeting
from gateway.runtime.attaching import arrived, enter
from gateway.runtime.messages import History
from gateway.runtime.patience import limited
from gateway.runtime.sessions import SessionSpec, translated
from store.errors import Unavailable
from store.types import EMPTY_OBJECT, Change

if TYPE_CHECKING:
    from gateway.runtime.connection import Connection
    from gateway.runtime.node import Node


class Requests:
    """Serves what `sending.at_once` does not. Raises GatewayError for what the client is to be told."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._pages = History(node.records)

    async def serve(self, connection: "Connection", frame: frames.ClientFrame) -> None:
        """Serve one request and put its answer."""
        match frame:
            case frames.Hello():
                await greeting.greet(connection, frame)
            case frames.Refresh():
                await greeting.refresh(connection, frame)
            case frames.Open():
                await self._open(connection, frame)
            case frames.Attach():
                await self._attach(connection, frame)
            case frames.Update():
                async with limited(self._node.health):
                    await self._update(connection, frame)
            case frames.Close():
                async with limited(self._node.health):
                    await self._close(connection, frame)
            case frames.History():
                async with limited():
                    await self._history(connection, frame)
            case frames.Presence():
                await self._presence(connection, frame)
            case _:
                raise AssertionError(f"{type(frame).__name__} is answered at once")

    async def _open(self, connection: "Connection", frame: frames.Open) -> None:
        if len(connection.attachments) >= self._node.limits.attachments:
            raise errors.LimitReached(
                f"{self._node.limits.attachments} attachments are allowed: detach one first"
            )
        spec = SessionSpec(
            title=frame.title,
            persistent=frame.persistent,
            ttl_s=frame.ttl,
            exclusive=frame.exclusive,
            context=frame.context or EMPTY_OBJECT,
            metadata=frame.metadata or EMPTY_OBJECT,
            text=frame.text,
            voice=frame.voice,
        )
        async with limited(self._node.health):
            session = await self._node.sessions.create(connection.caller, spec)
            await enter(connection, session.id, 0, frame.id)
        await arrived(connection)

    async def _attach(self, connection: "Connection", frame: frames.Attach) -> None:
        async with limited(self._node.health):
            await enter(connection, frame.session, frame.since, frame.id)
        # Answered by now: what the indexes take is not the client's to wait for, or to be told of.
        await arrived(connection)

    async def _update(self, connection: "Connection", frame: frames.Update) -> None:
        connection.may(
            connection.attachments.get(frame.session), "update" if frame.status is None else "archive"
        )
        change = Change(
            title=frame.title,
            context=frame.context,
            metadata=frame.metadata,
            status=frame.status,
        )
        session = await self._node.sessions.update(connection.caller, frame.session, change)
        connection.outlet.put(replies.updated(frame.id, session.id, session.version))

    async def _close(self, connection: "Connection", frame: frames.Close) -> None:
        await self._node.sessions.end(connection.caller, frame.session)
        connection.outlet.put(replies.closed(frame.id, frame.session))

    async def _history(self, connection: "Connection", frame: frames.History) -> None:
        attachment = connection.may(connection.attachments.get(frame.session), "history")
        head = attachment.room.relay.head
        with translated():
            if frame.after is not None:
                page, more = await self._pages.after(frame.session, frame.after, frame.limit)
            else:
                before = head + 1 if frame.before is None else frame.before
                page, more = await self._pages.before(frame.session, before, frame.limit)
        if page:
            head = max(head, page[-1].seq)
        connection.outlet.put(replies.history(frame.id, frame.session, page, head, more))

    async def _presence(self, connection: "Connection", frame: frames.Presence) -> None:
        connection.may(connection.attachments.get(frame.session), "presence")
        try:
            users = await self._node.presence.users(connection.caller.tenant, frame.session)
        except Unavailable as error:
            raise errors.Unavailable("presence is not known now: try again", retry_after_ms=1000) from error
        rows = [(present.user, present.connections, present.since) for present in users]
        connection.outlet.put(replies.presence(frame.id, frame.session, rows))
