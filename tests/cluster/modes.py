"""What the nodes say of their own health: in /readyz, in the metrics, in the log."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.cluster.world import World
from tests.waiting import later, until

NOTICED_WITHIN_S: Final = 10.0
LOOK_S: Final = 0.1


async def until_degraded(world: World, mode: str) -> None:
    """Wait until every node says of itself that it is in this mode, in /readyz and in the metrics."""
    await until(
        lambda: _is_in(world, mode, count=len(world.nodes)), within=NOTICED_WITHIN_S, what=f"all in {mode}"
    )
    assert await world.metric("gateway_degraded", mode=mode) == [1.0] * len(world.nodes)


async def until_whole(world: World, mode: str) -> None:
    """Wait until no node says so any more."""
    await until(lambda: _is_in(world, mode, count=0), within=NOTICED_WITHIN_S, what=f"none in {mode}")
    assert await world.metric("gateway_degraded", mode=mode) == [0.0] * len(world.nodes)


async def _is_in(world: World, mode: str, *, count: int) -> bool:
    return sum(mode in body for _, body in await world.ready()) == count


@asynccontextmanager
async def readiness(world: World) -> AsyncIterator[Counter[int]]:
    """Ask every node again and again whether it is ready while the block runs; the statuses, counted."""
    seen: Counter[int] = Counter()
    stop = asyncio.Event()

    async def look() -> None:
        # Not cancelled: in the middle of connecting, the HTTP client would leave its sockets open.
        while not stop.is_set():
            seen.update(status for status, _ in await world.ready())
            await later(LOOK_S)

    async with asyncio.TaskGroup() as group:
        group.create_task(look(), name="readiness")
        try:
            yield seen
        finally:
            stop.set()


def told(world: World, mode: str) -> list[tuple[int, int]]:
    """How many lines of each node's log say that it entered this mode, and that it left it."""
    return [
        (_count(node.output, "degraded", mode), _count(node.output, "restored", mode)) for node in world.nodes
    ]


def _count(log: str, event: str, mode: str) -> int:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return sum(line.get("event") == event and line.get("mode") == mode for line in lines)
