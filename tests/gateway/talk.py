"""The wire by hand: one WebSocket to a running gateway, frames as dicts, no client in between."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.process import GatewayProcess


class Talk:
    """Speak and listen."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._asked = 0

    async def say(self, frame_type: str, **fields: Any) -> None:
        """Send a frame and go on."""
        await self.socket.send(json.dumps({"type": frame_type, **fields}))

    async def next(self, *types: str) -> dict[str, Any]:
        """The next frame of one of these types (any, if none are given)."""
        while True:
            frame: dict[str, Any] = json.loads(await self.socket.recv())
            if not types or frame["type"] in types:
                return frame

    async def ask(self, frame_type: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        self._asked += 1
        request = fields.setdefault("id", f"{id(self)}-{self._asked}")
        await self.say(frame_type, **fields)
        while True:
            frame = await self.next()
            if frame.get("id") == request:
                return frame

    async def open(self, **fields: Any) -> str:
        """Open a session; its id."""
        attached = await self.ask("open", **fields)
        assert attached["type"] == "attached", attached
        return str(attached["session"])

    async def close_code(self) -> int:
        """Read until the gateway closes; its code."""
        try:
            while True:
                await self.socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


@asynccontextmanager
async def dial(gateway: GatewayProcess, **options: Any) -> AsyncIterator[Talk]:
    """Connect, without a hello."""
    options.setdefault("max_size", None)
    async with connect(gateway.ws_url, subprotocols=["session.v1"], proxy=None, **options) as socket:  # type: ignore[list-item]
        yield Talk(socket)


@asynccontextmanager
async def talk(gateway: GatewayProcess, user: str = "alice", **options: Any) -> AsyncIterator[Talk]:
    """Connect and be welcome."""
    async with dial(gateway, **options) as made:
        await made.say("hello", token=gateway.token(user))
        welcome = await made.next()
        assert welcome["type"] == "welcome", welcome
        yield made


async def call(gateway: GatewayProcess, user: str, method: str, path: str, **options: Any) -> httpx.Response:
    """One REST call in a user's name."""
    headers = {"Authorization": f"Bearer {gateway.token(user)}"}
    async with httpx.AsyncClient(trust_env=False, base_url=gateway.url, headers=headers) as http:
        return await http.request(method, f"/api/v1{path}", **options)
