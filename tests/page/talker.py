"""Somebody who talks on the bare wire: fills sessions faster than a page could."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from websockets.asyncio.client import ClientConnection, connect

from gateway.ids import new_id
from tests.process import GatewayProcess

# Below the 50 frames a second that a connection may send, after its burst of 100.
BURST = 90


class Talker:
    """One connection of one user."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._count = 0
        # Ids of sends are for good: those of the next connection must be others.
        self._name = new_id()[-12:]

    async def ask(self, type: str, reply: str, **fields: object) -> dict[str, object]:
        """Send a request and wait for its answer."""
        self._count += 1
        id = f"{self._name}-{self._count}"
        await self._connection.send(json.dumps({"type": type, "id": id, **fields}))
        while True:
            frame: dict[str, object] = json.loads(await self._connection.recv())
            if frame.get("id") == id:
                assert frame["type"] == reply, frame
                return frame


@asynccontextmanager
async def talker(gateway: GatewayProcess, user: str) -> AsyncIterator[Talker]:
    """Connect as a user."""
    async with connect(gateway.ws_url, subprotocols=["session.v1"], max_size=None) as connection:  # type: ignore[list-item]
        await connection.send(json.dumps({"type": "hello", "token": gateway.token(user)}))
        welcome = json.loads(await connection.recv())
        assert welcome["type"] == "welcome", welcome
        yield Talker(connection)


async def session_of(gateway: GatewayProcess, owner: str, title: str, *members: str) -> str:
    """Start a session over HTTP; returns its id."""
    headers = {"Authorization": f"Bearer {gateway.token(owner)}"}
    async with httpx.AsyncClient(base_url=f"{gateway.url}/api/v1", headers=headers, trust_env=False) as http:
        started = await http.post("/sessions", json={"title": title, "persistent": True})
        session: str = started.json()["data"]["session"]["id"]
        for member in members:
            put = await http.put(f"/sessions/{session}/members/{member}", json={"role": "writer"})
            put.raise_for_status()
    return session


async def long_session(gateway: GatewayProcess, user: str, messages: int, *members: str) -> str:
    """Make a session full of messages, all read by their writer; returns its id."""
    session = await session_of(gateway, user, "Long", *members)
    said = 0
    while said < messages:
        # A new connection has a new burst.
        async with talker(gateway, user) as voice:
            await voice.ask("attach", "attached", session=session)
            for number in range(said, min(messages, said + BURST)):
                words = "and some more words to make it longer " * (number % 4)
                content = f"message {number + 1} {words}".strip()
                await voice.ask("send", "ack", session=session, content=content)
            said += BURST
            await voice.ask("read", "read", session=session, seq=min(messages, said))
    return session
