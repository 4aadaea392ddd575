"""Somebody who reads the events of real nodes while things happen, page after page, wherever one answers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from tests.process import GatewayProcess
from tests.waiting import later

# Small, so that many pages end between what was committed and what was not yet.
PAGE: Final = 7
PAUSE_S: Final = 0.02

Event = dict[str, Any]


class Feed:
    """What such a reader was told, in the order in which they were told it."""

    def __init__(self, nodes: Sequence[GatewayProcess]) -> None:
        self._nodes = nodes
        self._after = 0
        self.events: list[Event] = []

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read on until the block is over."""
        task = asyncio.create_task(self._read())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    @property
    def ids(self) -> list[int]:
        return [event["id"] for event in self.events]

    def kinds(self, session: str) -> list[str]:
        """What happened to a session."""
        return [event["kind"] for event in self.events if event["session"] == session]

    def count(self, kind: str) -> Counter[str]:
        """How often it happened to each session."""
        return Counter(event["session"] for event in self.events if event["kind"] == kind)

    async def _read(self) -> None:
        headers = {"Authorization": f"Bearer {self._nodes[0].token('operator', scopes=['operator'])}"}
        # One client for all of it: to make one takes longer than a page does.
        async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=2.0) as http:
            while True:
                for node in self._nodes:
                    while await self._page(http, node):
                        pass
                await later(PAUSE_S)

    async def _page(self, http: httpx.AsyncClient, node: GatewayProcess) -> bool:
        """Read one page; whether there is more at once."""
        try:
            answer = await http.get(f"{node.url}/api/v1/events?after={self._after}&limit={PAGE}")
        except httpx.TransportError:
            return False  # it is dead, or dies
        if answer.status_code != 200:
            return False
        page = answer.json()["data"]
        self.events += page["events"]
        self._after = page["next"]
        return bool(page["more"])
