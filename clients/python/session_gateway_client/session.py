"""What the application holds of one session: send, receive, ask."""

import asyncio
from typing import Any, Protocol, Self, Unpack

from session_gateway_client.errors import ClientClosed, ClientError, Refused, SessionEnded
from session_gateway_client.inbox import Inbox
from session_gateway_client.values import (
    Ack,
    Changes,
    Document,
    Frame,
    History,
    Message,
    MessageRole,
    PresentUser,
)


class Wire(Protocol):
    """How a session reaches the gateway."""

    async def ask(self, frame: Frame, *, session: str | None = None, repeats: bool = True) -> Frame:
        """Send a request and return its reply; after a lost connection again, if it `repeats`."""

    async def post(self, session: str, message: Frame) -> Ack:
        """Send a message until it is acked or finally refused."""

    async def posted(self, session: str) -> None:
        """Return when no message of the session waits for its ack."""

    def offer(self, frame: Frame) -> bool:
        """Send something ephemeral, or not."""


class Registry(Protocol):
    """Who keeps the sessions."""

    def taken(self, session: "Session") -> None:
        """A message was read: there is room."""

    def remove(self, session: "Session") -> None:
        """Forget the session: it was left, or has ended."""


class Session:
    """One attached session. Iterate over it to receive; every message after `cursor` comes once, in order.

    The iteration ends when the session ends or is detached, or the client closes (`ended` says why), and
    raises Disconnected when the client was sent away. Several readers share the messages between them.
    """

    def __init__(self, wire: Wire, registry: Registry, frame: Frame, inbox: Inbox) -> None:
        self.id: str = frame["session"]
        self.title: str = ""
        self.role: str = ""
        self.state: str = ""
        self.epoch: int | None = None
        self.version: int | None = None
        self.head: int = 0
        self.ended: ClientError | None = None
        self.inbox = inbox
        # Once somebody has asked for messages, the socket waits for them; before that, the inbox lags when it
        # is full.
        self.has_reader = False
        self._wire = wire
        self._registry = registry
        self._arrived = asyncio.Event()
        self.refresh(frame)

    @property
    def cursor(self) -> int:
        """The last seq handed to the application: what to attach with after a restart of it."""
        return self.inbox.taken

    @property
    def waiting(self) -> int:
        """How many messages are here and not yet read."""
        return len(self.inbox)

    def __repr__(self) -> str:
        return f"<Session {self.id} cursor={self.cursor} head={self.head}>"

    # -- messages

    async def send(
        self,
        content: str,
        *,
        role: MessageRole = "user",
        metadata: Document | None = None,
        id: str | None = None,
    ) -> Ack:
        """Send a message and return when it is committed.

        `id` is the idempotency key, at most 64 characters, made up when absent: sent again with the same id,
        a message is stored once. Connections come and go meanwhile. Raises Refused when the gateway will not
        have it, OutboxFull when too many wait, ClientClosed and Disconnected when nothing can be sent any
        more.

        Cancellation: a message that had not left is not sent. One that had may be stored; it goes on being
        sent until its fate is known (see `Client.unacked`).
        """
        if self.ended is not None:
            raise self.ended
        message: Frame = {"content": content, "role": role}
        if metadata is not None:
            message["metadata"] = dict(metadata)
        if id is not None:
            message["id"] = id
        return await self._wire.post(self.id, message)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        self.has_reader = True
        while (message := self.inbox.take()) is None:
            if self.ended is not None:
                if isinstance(self.ended, SessionEnded | ClientClosed):
                    raise StopAsyncIteration
                raise self.ended
            self._arrived.clear()
            await self._arrived.wait()
        self._registry.taken(self)
        return message

    # -- requests

    async def history(
        self, *, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> History:
        """Read a page: what precedes `before`, or follows `after`, or the newest; `limit` ≤ 200."""
        request: Frame = {"type": "history", "session": self.id, "limit": limit}
        if before is not None:
            request["before"] = before
        if after is not None:
            request["after"] = after
        reply = await self._ask(request)
        return History(
            messages=tuple(Message.of(message, self.id) for message in reply["messages"]),
            head=int(reply["head"]),
            more=bool(reply["more"]),
        )

    async def read(self, seq: int) -> None:
        """Set the read marker; it never moves back. The others are told."""
        await self._ask({"type": "read", "session": self.id, "seq": seq})

    async def presence(self) -> list[PresentUser]:
        """Ask who is here."""
        reply = await self._ask({"type": "presence", "session": self.id})
        return [
            PresentUser(user["user"], int(user["connections"]), user.get("since", ""))
            for user in reply["users"]
        ]

    async def update(self, **changes: Unpack[Changes]) -> int:
        """Change title, context, metadata or status; returns the session's new version.

        Not repeated by itself: after ConnectionLost it may have been made, and others may have changed more.
        """
        request: Frame = {"type": "update", "session": self.id, **changes}
        reply = await self._ask(request, repeats=False)
        self.title = changes.get("title", self.title)
        return int(reply["version"])

    def signal(self, name: str, data: Any = None) -> bool:
        """Tell the others something ephemeral. False: there is no connection, or too much waits."""
        frame: Frame = {"type": "signal", "session": self.id, "name": name}
        if data is not None:
            frame["data"] = data
        return self.ended is None and self._wire.offer(frame)

    async def close(self) -> None:
        """End the session for everybody, after the messages already on their way."""
        if self.ended is not None:
            return
        await self._wire.posted(self.id)
        try:
            await self._ask({"type": "close", "session": self.id})
        except Refused as refused:
            # Somebody was faster, or our first try had succeeded and its answer was lost.
            if refused.code not in ("closed", "expired"):
                raise
        self.end(SessionEnded("closed", "closed by this client"))
        self._registry.remove(self)

    async def detach(self) -> None:
        """Leave, after the messages already on their way. The session goes on."""
        if self.ended is not None:
            return
        await self._wire.posted(self.id)
        try:
            await self._ask({"type": "detach", "session": self.id})
        except Refused as refused:
            if refused.code != "not_attached":
                raise
        self.end(SessionEnded("detached", "detached by this client"))
        self._registry.remove(self)

    async def _ask(self, request: Frame, *, repeats: bool = True) -> Frame:
        if self.ended is not None:
            raise self.ended
        return await self._wire.ask(request, session=self.id, repeats=repeats)

    # -- what the client tells it

    def refresh(self, frame: Frame) -> None:
        """Take over what an `attached` frame says."""
        self.head = max(self.head, int(frame["head"]))
        self.title = frame.get("title") or ""
        self.role = frame.get("role") or ""
        self.state = frame.get("state") or ""
        self.epoch = frame.get("epoch", self.epoch)

    def accept(self, message: Message, size: int) -> None:
        """Take in the next message."""
        self.head = max(self.head, message.seq)
        self.inbox.accept(message, size)
        self._arrived.set()

    def end(self, error: ClientError) -> None:
        """It is over; what is here can still be read."""
        self.ended = self.ended or error
        self._arrived.set()
