"""Drives `native/swarm.c`, the clients of a measurement."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, cast

from loadtest.native import built

# A scenario that takes longer is stuck: the swarm itself gives up when nothing arrives for 20 s.
_PATIENCE_S: Final = 180.0


class Swarm:
    """So many open connections."""

    def __init__(self, orders: asyncio.StreamWriter, answers: asyncio.StreamReader) -> None:
        self._orders = orders
        self._answers = answers

    async def do(self, line: str) -> float:
        """Have a command carried out; return the seconds it took."""
        self._orders.write(f"{line}\n".encode())
        return await self.answer()

    async def answer(self) -> float:
        """Wait for what is under way."""
        line = await asyncio.wait_for(self._answers.readline(), _PATIENCE_S)
        if not line:
            raise RuntimeError("the swarm has given up; it said why above")
        return int(line.split()[1]) / 1e6


@contextlib.asynccontextmanager
async def swarm(port: int, connections: int, size: int) -> AsyncIterator[Swarm]:
    """Connect."""
    process = await asyncio.create_subprocess_exec(
        str(built("swarm")),
        "127.0.0.1",
        str(port),
        "/ws",
        str(connections),
        str(size),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    orders, answers = cast(asyncio.StreamWriter, process.stdin), cast(asyncio.StreamReader, process.stdout)
    try:
        clients = Swarm(orders, answers)
        await clients.answer()
        yield clients
    finally:
        orders.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
