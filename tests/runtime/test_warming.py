"""A list is in the cache when its user has connected, and the welcome does not wait for it."""

import asyncio
from pathlib import Path

from store.types import Listing
from tests.runtime.world import world
from tests.waiting import until


async def test_who_connects_finds_the_list_in_the_cache(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        client = await here.client()
        counts = here.node.records.counts
        await until(lambda: counts["list_bytes"] > 0)
        assert client.connection.identity is not None
        await here.node.sessions.list_for(client.connection.identity, None, 20)
        assert (counts["list_load"], counts["list_hit"], counts["list_miss"]) == (1, 1, 0)


async def test_the_welcome_does_not_wait_for_the_list(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        asked, never = asyncio.Event(), asyncio.Event()

        async def held(*given: object, **more: object) -> list[Listing]:
            asked.set()
            await never.wait()
            return []

        here.node.log.list_for = held  # type: ignore[method-assign]
        await here.client()
        await asked.wait()
