"""What is measured: CPU time and memory of a server's process, per connection, message and delivery.

The machine is shared, and its speed changes by half within seconds. So all servers run at once, idle but for
one, and take short turns; what is told is the median of the ratios to the floor's turn a moment before.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Final

import httpx
import msgspec

from loadtest.contenders import Mode, Running, Start
from loadtest.swarm import Swarm, swarm
from tests.process import GatewayProcess

ECHO: Final = "echo"
SINGLE: Final = "delivery"
BATCH: Final = "delivery, 16 waiting"
OPEN: Final = "open"
RSS: Final = "memory"

# µs of CPU for the first four, KiB for the last.
FIGURES: Final = (ECHO, SINGLE, BATCH, OPEN, RSS)

_BATCH: Final = 16

# By server and figure: one value for each turn, the same turns for all.
Samples = dict[str, dict[str, list[float]]]


class Load(msgspec.Struct, frozen=True):
    """How much."""

    connections: int = 1000
    size: int = 128
    turns: int = 15
    rounds: int = 30  # in one turn


class _Contender(msgspec.Struct):
    """A server with its clients."""

    server: Running
    clients: Swarm
    figures: dict[str, list[float]]
    session: str = ""

    async def take(self, figure: str, line: str, count: int) -> None:
        """Have the clients do something `count` times, and note the microseconds of each."""
        before = self.server.cpu_s()
        await self.clients.do(line)
        self.figures.setdefault(figure, []).append((self.server.cpu_s() - before) / count * 1e6)


async def connect(starts: Mapping[str, Start], load: Load) -> Samples:
    """Open connections and leave them idle. One server after the other; one turn: memory does not vary."""
    return {name: await _connect(start, load) for name, start in starts.items()}


async def _connect(start: Start, load: Load) -> dict[str, list[float]]:
    async with start("echo") as server:
        await asyncio.sleep(0.5)
        cpu_s, rss = server.cpu_s(), server.rss_bytes()
        async with swarm(server.port, load.connections, load.size) as clients:
            cpu_s = server.cpu_s() - cpu_s
            if server.gateway is not None:
                await _attach(server.gateway, clients)
            # Past the five seconds that a request may take: by then the HTTP side has let go of everything.
            await asyncio.sleep(6.0)
            rss = server.rss_bytes() - rss
    return {OPEN: [cpu_s / load.connections * 1e6], RSS: [rss / load.connections / 1024]}


async def echo(starts: Mapping[str, Start], load: Load) -> Samples:
    """Every connection sends a message and waits for it, all at the same time."""
    count = load.rounds * load.connections
    async with _all(starts, "echo", load) as contenders:
        for contender in contenders.values():
            await contender.clients.do("echo 10")  # warm
        for _ in range(load.turns):
            for contender in contenders.values():
                await contender.take(ECHO, f"echo {load.rounds}", count)
        return {name: contender.figures for name, contender in contenders.items()}


async def fanout(starts: Mapping[str, Start], load: Load) -> Samples:
    """One connection sends, all receive; then 16 messages at once."""
    batches = max(load.rounds // 4, 1)
    async with _all(starts, "fanout", load) as contenders:
        words = {name: "say" if contender.session else "fanout" for name, contender in contenders.items()}
        for name, contender in contenders.items():
            await contender.clients.do(f"{words[name]} 10 1 {contender.session}")  # warm
        for _ in range(load.turns):
            for figure, rounds, batch in ((SINGLE, load.rounds, 1), (BATCH, batches, _BATCH)):
                for name, contender in contenders.items():
                    line = f"{words[name]} {rounds} {batch} {contender.session}"
                    await contender.take(figure, line, rounds * batch * load.connections)
        return {name: contender.figures for name, contender in contenders.items()}


@contextlib.asynccontextmanager
async def _all(starts: Mapping[str, Start], mode: Mode, load: Load) -> AsyncIterator[dict[str, _Contender]]:
    async with contextlib.AsyncExitStack() as stack:
        contenders = {}
        for name, start in starts.items():
            server = await stack.enter_async_context(start(mode))
            clients = await stack.enter_async_context(swarm(server.port, load.connections, load.size))
            contenders[name] = _Contender(server, clients, {})
            if server.gateway is not None:
                contenders[name].session = await _attach(server.gateway, clients)
        yield contenders


async def _attach(gateway: GatewayProcess, clients: Swarm) -> str:
    """Make a session and have every connection attach to it. All are of one user: presence stays quiet."""
    token = gateway.token("loadtest")
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        answer = await http.post("/api/v1/sessions", headers={"authorization": f"Bearer {token}"}, json={})
        answer.raise_for_status()
    session = str(answer.json()["data"]["session"]["id"])
    hello = {"type": "hello", "token": token, "attach": [{"session": session}]}
    await clients.do(f"hello {json.dumps(hello)}")
    return session
