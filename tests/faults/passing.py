"""Sessions that nobody looks after: made again and again, and ended by whichever node sweeps first."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import asyncpg
import httpx

from tests.cluster.crowd import Crowd
from tests.evidence.history import Op, Record
from tests.waiting import later, until

EVERY_S: Final = 0.25
TTL_S: Final = 1


class Passing:
    """Makes short-lived sessions while a crowd talks. A node that is away makes none."""

    def __init__(self, crowd: Crowd, database_url: str) -> None:
        self._crowd = crowd
        self._url = database_url
        self._title = f"passing{crowd.surname}"
        self._chance = Random(self._title)  # noqa: S311 - where to ask

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Make them while the block runs."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._come(stop), name="passing sessions")
            try:
                yield
            finally:
                stop.set()

    async def _come(self, stop: asyncio.Event) -> None:
        body = {"title": self._title, "ttl": TTL_S}
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            while not stop.is_set():
                await later(EVERY_S)
                owner = self._chance.choice(self._crowd.speakers)
                node = self._chance.choice(self._crowd.nodes)
                headers = {"Authorization": f"Bearer {owner.token}"}
                try:
                    await http.post(f"{node.url}/api/v1/sessions", json=body, headers=headers)
                except httpx.TransportError:
                    continue  # a fault; whether it was made is seen in the end

    async def over(self, *, within: float) -> None:
        """Wait until all have ended, or for so long, and have the history know of them."""

        async def are_over() -> bool:
            sessions = await self._look()
            return all(ended for _, ended in sessions)

        try:
            await until(are_over, within=within)
        except AssertionError:
            self._note("index", "", f"some of {self._title} have not ended {within:.0f} s after their time")
        for session, _ in await self._look():
            self._note("member", session)

    async def _look(self) -> list[tuple[str, bool]]:
        connection = await asyncpg.connect(self._url)
        try:
            sql = "SELECT id::text, ended_at IS NOT NULL FROM sessions WHERE title = $1"
            return [(id, ended) for id, ended in await connection.fetch(sql, self._title)]
        finally:
            await connection.close()

    def _note(self, op: Op, session: str, what: str | None = None) -> None:
        record = Record(client=self._title, op=op, at=time.monotonic(), session=session, what=what)
        self._crowd.history.add(record)
