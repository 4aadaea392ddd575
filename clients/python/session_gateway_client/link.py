"""One welcomed WebSocket to its end: reading, writing, heartbeats, replies. It never reconnects."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from session_gateway_client.clock import within
from session_gateway_client.closing import ABNORMAL, NORMAL, SILENT, Ending
from session_gateway_client.errors import ConnectionLost, OutboxFull
from session_gateway_client.frames import decode, encode, refusal
from session_gateway_client.handshake import Welcome
from session_gateway_client.options import Options
from session_gateway_client.outbox import Outbox
from session_gateway_client.tasks import reap
from session_gateway_client.values import Frame

logger: Final = logging.getLogger("session_gateway_client")


class Host(Protocol):
    """Whoever owns the link."""

    async def receive(self, link: "Link", frame: Frame, size: int) -> None:
        """Take a frame. The socket is not read further before this returns."""

    def may_carry(self, link: "Link", session: str) -> bool:
        """Whether messages of the session may be sent over this link."""

    def seen(self) -> dict[str, int]:
        """The delivered watermarks, for the heartbeat."""


class Link:
    """One welcomed WebSocket. Three tasks, started and reaped by `run`.

    Order: requests and heartbeats leave in the order offered and before waiting messages; messages in outbox
    order.
    Bound: `options.requests` frames wait to be written; messages wait in the outbox.
    Cancellation: of whoever waits for a reply, does not touch the socket.
    """

    def __init__(
        self, socket: ClientConnection, welcome: Welcome, host: Host, outbox: Outbox, options: Options
    ) -> None:
        self.welcome = welcome
        self.opened_at = options.clock.monotonic()
        self.closed_at = math.inf
        self.attached: set[str] = set()
        self.live: set[str] = set()
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        # The last `migrate` that came here and was not obeyed yet, and when it came.
        self.farewell: tuple[Frame, float] | None = None
        # The host has stopped reading; silence is then our own doing.
        self.is_paused = False
        self._changed = asyncio.Event()
        self._socket = socket
        self._host = host
        self._outbox = outbox
        self._options = options
        self._clock = options.clock
        self._replies: dict[str, asyncio.Future[Frame]] = {}
        self._control: deque[str] = deque()
        self._work = asyncio.Event()
        self._holds_messages = False
        self._heard_at = self.opened_at
        self._ending: Ending | None = None

    # -- asking

    @property
    def is_up(self) -> bool:
        return not self.ended.done() and self._ending is None

    @property
    def waits_for_replies(self) -> bool:
        return any(not reply.done() for reply in self._replies.values())

    def expects(self, id: str) -> bool:
        """Whether somebody waits for the reply to the request `id`."""
        return id in self._replies

    def offer(self, frame: Frame) -> bool:
        """Queue a frame; False when the link is down or has too many waiting."""
        if not self.is_up or len(self._control) >= self._options.requests:
            return False
        self._control.append(encode(frame))
        self._work.set()
        return True

    async def ask(self, frame: Frame) -> Frame:
        """Send a request (with `id`) and return its reply. Refused; ConnectionLost; OutboxFull."""
        if not self.is_up:
            raise ConnectionLost("the connection is gone")
        if len(self._replies) >= self._options.requests or not self.offer(frame):
            raise OutboxFull(f"{self._options.requests} requests wait for their answer")
        reply: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        # Its asker may have been cancelled a moment before the refusal came.
        reply.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._replies[frame["id"]] = reply
        # Whoever has stopped reading this socket must go on: the answer comes through it.
        self.wake()
        try:
            return await reply
        finally:
            del self._replies[frame["id"]]
            self.wake()

    def wake(self) -> None:
        """Look again: there may be messages to send, or what somebody waits for in `until`."""
        self._changed.set()
        self._work.set()

    def hold_messages(self) -> None:
        """Transmit no further messages; what is in flight may still be acked."""
        self._holds_messages = True

    def release_messages(self) -> None:
        """Transmit messages again."""
        self._holds_messages = False
        self.wake()

    def mark(self, session: str, *, live: bool) -> None:
        """Note that a session is attached here, and whether it has caught up."""
        self.attached.add(session)
        (self.live.add if live else self.live.discard)(session)
        self.wake()

    def unmark(self, session: str) -> None:
        """Note that a session is not attached here any more."""
        self.attached.discard(session)
        self.live.discard(session)
        self.wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds (looked at with each `mark` and `wake`), or the link is down."""
        while self.is_up and not condition():
            self._changed.clear()
            await self._changed.wait()

    def fail(self, ending: Ending) -> None:
        """Give the connection up at once: it is not worth a closing handshake."""
        self._ending = self._ending or ending
        self.wake()
        self._socket.transport.abort()

    async def close(self) -> None:
        """Close with 1000 and wait for the end of it, 2 s at most."""
        self._ending = self._ending or Ending(code=NORMAL, reason="closed by this client")
        self.wake()
        await self._socket.close(NORMAL)

    # -- running

    async def run(self) -> None:
        """Work until the connection ends; then `ended` says how. Called once."""
        reader, *others = tasks = [
            asyncio.create_task(work, name=f"gateway link {name}")
            for work, name in ((self._read(), "reader"), (self._write(), "writer"), (self._beat(), "beat"))
        ]
        try:
            # The reader's end is the link's: it has then seen every frame that came before the close. The
            # writer and the heartbeat return early when the socket is gone, but a failure of theirs is a bug
            # and ends it.
            while not reader.done() and not any(task.done() and task.exception() for task in others):
                running = [task for task in tasks if not task.done()]
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._socket.transport.abort()
            await reap(*tasks)
            self._end()
        for task in tasks:
            if not task.cancelled() and (bug := task.exception()) is not None:
                raise bug

    def _end(self) -> None:
        code = self._socket.close_code
        seen = Ending(code=None if code == ABNORMAL else code, reason=self._socket.close_reason or "")
        self.closed_at = self._clock.monotonic()
        self.ended.set_result(self._ending or seen)
        self.wake()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionLost("the connection was lost while a request was under way"))

    async def _read(self) -> None:
        while True:
            try:
                raw = await self._socket.recv(decode=False)
            except ConnectionClosed:
                return
            self._heard_at = self._clock.monotonic()
            try:
                frame = decode(raw)
                await self._host.receive(self, frame, len(raw))
                self._answer(frame)
            except (KeyError, TypeError, ValueError) as error:
                logger.warning("the gateway sent a frame that cannot be read (%r): %.200r", error, raw)
                self.fail(Ending(reason="unreadable frame"))
                return

    def _answer(self, frame: Frame) -> None:
        # The id of a `message` is its own, not a request's.
        id = None if frame["type"] == "message" else frame.get("id")
        reply = None if id is None else self._replies.get(id)
        if reply is None or reply.done():
            return
        if frame["type"] == "error":
            reply.set_exception(refusal(frame))
        else:
            reply.set_result(frame)

    async def _write(self) -> None:
        while True:
            now = self._clock.monotonic()
            self._work.clear()
            text = self._next(now)
            if text is not None:
                try:
                    await self._socket.send(text)
                except ConnectionClosed:
                    return
                continue
            if (held_s := self._outbox.wait_s(now)) == math.inf:
                await self._work.wait()
                continue
            try:
                await within(self._clock, held_s, self._until_work())
            except TimeoutError:
                continue

    async def _until_work(self) -> None:
        await self._work.wait()

    def _next(self, now: float) -> str | None:
        if self._control:
            return self._control.popleft()
        if self._holds_messages:
            return None
        entry = self._outbox.next(self, lambda session: self._host.may_carry(self, session), now)
        return None if entry is None else entry.text

    async def _beat(self) -> None:
        interval, timeout = self.welcome.interval_s, self.welcome.timeout_s
        ack_timeout = self._options.ack_timeout_s
        # The first after interval × U(0,1): clients that came together do not beat together.
        due = self._clock.monotonic() + interval * self._options.random.random()
        while True:
            now = self._clock.monotonic()
            if self.is_paused:
                self._heard_at = now
            oldest = self._outbox.oldest(self)
            if now - self._heard_at >= timeout:
                return self.fail(Ending(code=SILENT, reason=f"nothing heard for {timeout:g} s"))
            if oldest is not None and not self.is_paused and now - oldest >= ack_timeout:
                return self.fail(Ending(reason=f"no ack for {ack_timeout:g} s"))
            if now >= due:
                self.offer({"type": "heartbeat", "ts": self._clock.now_ms(), "seen": self._host.seen()})
                due = now + interval
            await self._clock.sleep(max(0.0, min(due, self._heard_at + timeout) - now))
