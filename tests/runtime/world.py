"""A node without sockets: real stores, real node, connections whose outlet is a list."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.auth.revocations import Revocations
from gateway.auth.tickets import Tickets
from gateway.auth.tokens import Tokens
from gateway.clock import SystemClock
from gateway.protocol.limits import Limits
from gateway.runtime.connection import Connection
from gateway.runtime.node import Credentials, Node, NodeSettings
from gateway.settings import load
from gateway.telemetry.metrics import Metrics
from store.open import Places, Stores, open_stores
from tests.waiting import until

SECRET = "a secret of the tests, long enough for HS256"
UNLIMITED = Limits(frames_per_s=1e6, frames_burst=1_000_000)


def payload(frame: bytes) -> dict[str, Any]:
    """Read the JSON out of one unmasked WebSocket text frame."""
    assert frame[0] == 0x81
    start = 2 if frame[1] < 126 else 4 if frame[1] == 126 else 10
    value = json.loads(frame[start:])
    assert isinstance(value, dict)
    return value


class ListOutlet:
    """An outlet that keeps what was put.

    `lagging` is the test's to set, `room` bounds messages until then.
    """

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.lagging = False
        self.room: int | None = None
        self.closed: tuple[int, str] | None = None

    def put(self, frame: bytes) -> None:
        if self.closed is None:
            self.frames.append(payload(frame))

    def put_message(self, frame: bytes) -> bool:
        if self.lagging:
            return False
        if self.room is not None:
            if self.room == 0:
                self.lagging = True
                return False
            self.room -= 1
        self.put(frame)
        return True

    def put_ephemeral(self, frame: bytes) -> bool:
        if self.lagging:
            return False
        self.put(frame)
        return True

    def hasten(self, deadline: float) -> None:
        """Tests call `check` themselves."""

    def close(self, code: int, reason: str = "") -> None:
        if self.closed is None:
            self.closed = (code, reason)


class Client:
    """One connection with a person at the other end."""

    def __init__(self, world: "World", connection: Connection) -> None:
        self.world = world
        self.connection = connection
        self.outlet = ListOutlet()
        self._read = 0
        self._ids = 0
        connection.on_open(self.outlet)

    def say(self, frame_type: str, **fields: Any) -> None:
        """Send a frame and go on."""
        data = json.dumps({"type": frame_type, **fields}).encode()
        self.connection.on_text(data, self.world.clock.monotonic())

    async def next(self, *types: str) -> dict[str, Any]:
        """The next frame of one of these types (any, if none are given); those before it are passed over."""
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            while self._read < len(self.outlet.frames):
                frame = self.outlet.frames[self._read]
                self._read += 1
                if not types or frame["type"] in types:
                    found.append(frame)
                    return True
            return False

        await until(arrived, what=f"{types} among {self.outlet.frames[-5:]}, closed {self.outlet.closed}")
        return found[0]

    async def ask(self, frame_type: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its one answer. Several may be asked at once."""
        self._ids += 1
        request = fields.setdefault("id", f"{self.connection.id[-6:]}-{self._ids}")
        position = len(self.outlet.frames)
        self.say(frame_type, **fields)

        def arrived() -> bool:
            nonlocal position
            while position < len(self.outlet.frames):
                frame = self.outlet.frames[position]
                if frame.get("id") == request and frame["type"] != "message":
                    return True
                position += 1
            return False

        await until(arrived, what=f"an answer to {frame_type} {request}, closed {self.outlet.closed}")
        self._read = max(self._read, position + 1)
        return self.outlet.frames[position]

    async def hello(self, user: str = "alice", **fields: Any) -> dict[str, Any]:
        """Open with a token of the user's; return the welcome."""
        self.say("hello", token=self.world.tokens.mint(user), **fields)
        return await self.next("welcome", "error")

    async def open(self, **fields: Any) -> str:
        """Open a session and return its id."""
        attached = await self.ask("open", **fields)
        assert attached["type"] == "attached", attached
        return str(attached["session"])

    async def send(self, session: str, content: str, **fields: Any) -> dict[str, Any]:
        """Send a message and return its ack."""
        return await self.ask("send", session=session, content=content, **fields)

    def messages(self, session: str) -> list[int]:
        """The seqs of all messages of a session that have come."""
        return [f["seq"] for f in self.outlet.frames if f["type"] == "message" and f["session"] == session]

    async def closed(self) -> int:
        """Wait for the connection to be closed from the other side; its code."""
        await until(lambda: self.outlet.closed is not None, what="a close")
        assert self.outlet.closed is not None
        return self.outlet.closed[0]

    def vanish(self, code: int = 1006) -> None:
        """The socket is gone."""
        self.connection.on_closed(code)


class World:
    """A node and its clients."""

    def __init__(self, stores: Stores, settings: NodeSettings, limits: Limits = UNLIMITED) -> None:
        self.clock = SystemClock()
        self.tokens = Tokens.from_settings(load({"GATEWAY_JWT_SECRET": SECRET}), self.clock)
        tickets = Tickets(stores.live, self.clock)
        credentials = Credentials(self.tokens, tickets, Revocations(stores.log, self.clock))
        self.tickets = tickets
        self.node = Node(settings, limits, stores, credentials, self.clock, Metrics())
        self.clients: list[Client] = []

    def connect(self) -> Client:
        """Make a connection that has not said hello."""
        client = Client(self, self.node.accept(None, "127.0.0.1", 4711))
        self.clients.append(client)
        return client

    async def client(self, user: str = "alice", **fields: Any) -> Client:
        """Make a connection that is welcome."""
        client = self.connect()
        welcome = await client.hello(user, **fields)
        assert welcome["type"] == "welcome", welcome
        return client

    async def join(self, owner: Client, session: str, user: str, role: str = "writer") -> None:
        """Make a user a member."""
        assert owner.connection.identity is not None
        await self.node.sessions.put_member(owner.connection.identity, session, user, role)  # type: ignore[arg-type]


@asynccontextmanager
async def world(path: Path, limits: Limits | None = None, **settings: Any) -> AsyncIterator[World]:
    """A running node on a folder; everything is closed at the end."""
    made = World(open_stores(Places(path)), NodeSettings(node_id="n1", **settings), limits or UNLIMITED)
    await made.node.start()
    try:
        yield made
    finally:
        for client in made.clients:
            if not client.connection.is_closed:
                client.vanish()
        await made.node.stop()
