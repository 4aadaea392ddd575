"""A gateway that stores as it promises and breaks every other rule at random; the client makes up for it."""

import asyncio
import contextlib
import time
from random import Random
from typing import Any, Final

import pytest
from websockets.exceptions import ConnectionClosed

from session_gateway_client import Message, Session
from tests.clients.python.scripted import SESSION, Constant, Frame, Peer, gateway
from tests.waiting import until

FASTER: Final = 20.0
MESSAGES: Final = 100


class FastClock:
    """The machine's time, twenty times as fast: time limits and graces are real, and soon over."""

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def monotonic(self) -> float:
        return time.monotonic() * FASTER

    async def sleep(self, seconds: float) -> None:
        loop, slept = asyncio.get_running_loop(), asyncio.Event()
        timer = loop.call_later(max(0.0, seconds) / FASTER, slept.set)
        try:
            await slept.wait()
        finally:
            timer.cancel()


class Unreliable:
    """One session on a gateway that drops, doubles, delays and refuses."""

    def __init__(self, seed: int) -> None:
        self.log: list[Frame] = []
        self._chance = Random(seed)  # noqa: S311 - a schedule, not a secret
        self._attached: set[Peer] = set()
        self.faults = 0

    def happens(self, probability: float) -> bool:
        """Whether something goes wrong now."""
        if self._chance.random() < probability:
            self.faults += 1
            return True
        return False

    async def script(self, peer: Peer) -> None:
        """Serve one connection until it ends, one way or another."""
        try:
            hello = await peer.welcome(beat_ms=2_000, resumed=self._chance.random() < 0.5)
            for reference in hello.get("attach", ()):
                await self._attach(peer, reference)
            while True:
                await self._answer(peer, await peer.frame())
                if self.happens(0.02):
                    return peer.drop()
                if self.happens(0.01):
                    await peer.send("migrate", slot_ms=10, deadline_ms=20_000, url=None, reason="drain")
        finally:
            self._attached.discard(peer)

    async def _answer(self, peer: Peer, frame: Frame) -> None:
        match frame["type"]:
            case "attach":
                await self._attach(peer, frame)
            case "send":
                await self._store(peer, frame)
            case "heartbeat":
                heads = {SESSION: {"head": len(self.log), "ttl_ms": 1}} if peer in self._attached else {}
                await peer.send("heartbeat", ts=frame["ts"], now=1, sessions=heads)

    async def _attach(self, peer: Peer, frame: Frame) -> None:
        if self.happens(0.05):
            return await peer.say(
                {
                    "type": "error",
                    "id": frame.get("id"),
                    "session": SESSION,
                    "code": "unavailable",
                    "retryable": True,
                }
            )
        since = int(frame["since"])
        id = {"id": frame["id"]} if "id" in frame else {}
        await peer.attached(since=since, head=len(self.log), **id)
        self._attached.add(peer)
        for message in self.log[since:]:
            if not self.happens(0.02):
                await peer.say(message)
        await peer.send("live", session=SESSION, seq=len(self.log))

    async def _store(self, peer: Peer, frame: Frame) -> None:
        if self.happens(0.05):
            return await peer.refuse(frame, "rate_limited", retryable=True, retry_after_ms=100)
        known = [message for message in self.log if message["client_id"] == frame["id"]]
        if not known:
            if self.happens(0.03):
                return peer.drop()
            await self._tell(frame)
        if self.happens(0.05):
            # Stored, and the ack is lost.
            return peer.drop()
        seq = known[0]["seq"] if known else len(self.log)
        await peer.ack(frame, seq, duplicate=bool(known))

    async def _tell(self, frame: Frame) -> None:
        message = {
            "type": "message",
            "session": SESSION,
            "seq": len(self.log) + 1,
            "id": f"id-{len(self.log) + 1}",
            "client_id": frame["id"],
            "sender": "alice",
            "role": "user",
            "content": frame["content"],
            "metadata": {},
            "created_at": "",
        }
        self.log.append(message)
        for peer in tuple(self._attached):
            # Somebody else's connection may be gone already.
            with contextlib.suppress(ConnectionClosed):
                for _ in range(0 if self.happens(0.05) else 2 if self.happens(0.05) else 1):
                    await peer.say(message)


async def send_all(session: Session, name: str) -> None:
    for n in range(MESSAGES):
        await session.send(f"{name} {n}", id=f"{name}-{n}")


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_goes_wrong_every_message_is_stored_once_in_order_and_read_once_in_order(
    seed: int,
) -> None:
    wild = Unreliable(seed)
    async with gateway(*[wild.script] * 2000) as server:
        options: dict[str, Any] = {"clock": FastClock(), "random": Constant(0.01), "queue_messages": 8}
        async with server.client(**options) as one, server.client(**options) as two:
            sessions = [await client.attach(SESSION, since=0) for client in (one, two)]
            got: list[list[Message]] = [[], []]
            async with asyncio.TaskGroup() as group:
                readers = [group.create_task(read(s, list_)) for s, list_ in zip(sessions, got, strict=True)]
                await asyncio.gather(
                    *(send_all(s, name) for s, name in zip(sessions, ("a", "b"), strict=True))
                )
                await until(lambda: all(len(list_) >= 2 * MESSAGES for list_ in got), within=20)
                for reader in readers:
                    reader.cancel()
        for list_ in got:
            assert [message.seq for message in list_] == list(range(1, 2 * MESSAGES + 1))
            assert [message.content for message in list_] == [frame["content"] for frame in wild.log]
        for name in ("a", "b"):
            mine = [frame["content"] for frame in wild.log if frame["content"].startswith(name)]
            assert mine == [f"{name} {n}" for n in range(MESSAGES)]
        assert wild.faults > 10


async def read(session: Session, got: list[Message]) -> None:
    async for message in session:
        got += [message]
