"""A gateway that does what a test tells it, connection by connection; and time and chance in the test's hand.

A script is a coroutine that is given one connection; the n-th connection gets the n-th script. A script that
ends leaves its connection open. What a script raises, the test raises at its end.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from random import Random
from typing import Any, Final

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from session_gateway_client import Client, Options, connect
from tests.waiting import turns

Frame = dict[str, Any]
TOKEN: Final = "t0ken"
SESSION: Final = "0192f0c1-0000-7000-8000-000000000001"
OTHER: Final = "0192f0c1-0000-7000-8000-000000000002"


class ManualClock:
    """Time that passes when the test says so. `sleep(0)` and less returns at once."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return int(self.time * 1000)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self.time + seconds, waiter)
        self._sleepers.append(entry)
        try:
            await waiter
        finally:
            self._sleepers.remove(entry)

    def sleeps(self, seconds: float) -> bool:
        """Whether somebody sleeps until `seconds` from now."""
        return any(abs(due - self.time - seconds) < 1e-6 for due, _ in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds
        for due, waiter in self._sleepers:
            if due <= self.time and not waiter.done():
                waiter.set_result(None)


class Constant(Random):
    """Chance that always falls on the same spot of its range."""

    def __init__(self, at: float) -> None:
        super().__init__(0)
        self._at = at

    def random(self) -> float:
        return self._at


class Peer:
    """The gateway's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.received: list[Frame] = []

    async def frame(self) -> Frame:
        """The next frame, whatever it is."""
        frame: Frame = json.loads(await self.socket.recv())
        self.received.append(frame)
        return frame

    async def expect(self, kind: str) -> Frame:
        """The next frame but heartbeats (unless one is expected); it must be of this kind."""
        while True:
            frame = await self.frame()
            if frame["type"] == kind:
                return frame
            assert frame["type"] == "heartbeat", f"expected {kind}, got {frame}"

    async def send(self, type: str, /, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": type, **fields}))

    async def say(self, frame: Frame) -> None:
        await self.socket.send(json.dumps(frame))

    async def welcome(self, *, resumed: bool = False, beat_ms: int = 25_000, **fields: Any) -> Frame:
        """Receive the hello, answer it, and return it."""
        hello = await self.expect("hello")
        await self.send(
            "welcome",
            **{
                "connection": "c-1",
                "user": "alice",
                "tenant": "default",
                "node": "n1",
                "resume": "resume-1",
                "resumed": resumed,
                "heartbeat": {"interval_ms": beat_ms, "timeout_ms": 60_000},
                "limits": {"message_bytes": 65_536},
                "now": "2025-11-21T12:00:00.000Z",
                **fields,
            },
        )
        return hello

    async def attached(self, *, since: int = 0, head: int = 0, session: str = SESSION, **fields: Any) -> None:
        await self.send(
            "attached",
            session=session,
            since=since,
            head=head,
            **{"epoch": 1, "state": "active", "title": "A talk", "role": "owner", **fields},
        )

    async def opened(self) -> Frame:
        """Welcome, and one session opened."""
        await self.welcome()
        return await self.opened_on_request()

    async def opened_on_request(self) -> Frame:
        """One session opened."""
        request = await self.expect("open")
        await self.attached(id=request["id"])
        return request

    async def messages(self, first: int, last: int, *, session: str = SESSION, size: int = 0) -> None:
        """Send the messages first … last."""
        for seq in range(first, last + 1):
            await self.send(
                "message",
                session=session,
                seq=seq,
                id=f"id-{seq}",
                client_id=f"c-{seq}",
                sender="bob",
                role="user",
                content=str(seq).ljust(size, "."),
                metadata={"n": seq},
                created_at="2025-11-21T12:00:00.000Z",
            )

    async def ack(self, send: Frame, seq: int, *, duplicate: bool = False) -> None:
        await self.send(
            "ack", id=send["id"], session=send["session"], seq=seq, ts=1_763_719_200_123, duplicate=duplicate
        )

    async def refuse(self, request: Frame, code: str, **fields: Any) -> None:
        await self.send("error", id=request["id"], code=code, message="no", **{"retryable": False, **fields})

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code, reason)

    def drop(self) -> None:
        """Cut the connection without a word."""
        self.socket.transport.abort()

    async def until_closed(self) -> int | None:
        """Read on until the client has closed; its code."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.frame()
        return self.socket.close_code


Script = Callable[[Peer], Awaitable[object]]


class ScriptedGateway:
    """What a test sees of it."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self._scripts = list(scripts)
        self.port = 0
        self.peers: list[Peer] = []
        self.failures: list[Exception] = []
        self.scripts: set[asyncio.Task[Any]] = set()
        # Answers to upgrades, in front of the scripts: a status and headers.
        self.upgrades: list[tuple[HTTPStatus, dict[str, str]]] = []
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def then(self, *scripts: Script) -> None:
        """Add scripts for further connections."""
        self._scripts.extend(scripts)

    def client(self, *, token: str = TOKEN, **options: Any) -> Client:
        """A client of this gateway, in direct connection and with chance at a half."""
        return connect(
            self.url, token=token, options=Options(**{"random": Constant(0.5), "proxy": None, **options})
        )

    def refuse(self, socket: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if not self.upgrades:
            return None
        status, headers = self.upgrades.pop(0)
        response = socket.respond(status, "no\n")
        response.headers.update(headers)
        return response

    async def serve(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        self.peers.append(peer)
        if (script := asyncio.current_task()) is not None:
            self.scripts.add(script)
        try:
            if not self._scripts:
                raise AssertionError("one connection more than the test has scripts for")
            await self._scripts.pop(0)(peer)
            await peer.until_closed()
        except ConnectionClosed:
            return
        except Exception as failure:
            self.failures.append(failure)
            await socket.close(1011)


@contextlib.asynccontextmanager
async def gateway(*scripts: Script) -> AsyncIterator[ScriptedGateway]:
    """Serve one script per connection; at the end raise what a script raised."""
    scripted = ScriptedGateway(scripts)
    async with serve(
        scripted.serve,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol("session.v1")],
        process_request=scripted.refuse,
        ping_interval=None,
        close_timeout=1.0,
    ) as server:
        scripted.port = next(iter(server.sockets)).getsockname()[1]
        try:
            yield scripted
        except Exception as error:
            # What the client saw is often only the consequence.
            for failure in scripted.failures:
                error.add_note(f"the script failed: {failure!r}")
            raise
        finally:
            # Some wait for something else than their socket.
            await turns(50)
            for script in scripted.scripts:
                script.cancel()
    if scripted.failures:
        raise scripted.failures[0]
