"""What is measured: CPU time and memory of a server's process, per connection, message and delivery.

The machine is shared and noisy. All servers take turns, several times; the smallest figure of each is the
least disturbed one, and only ratios of figures of one run mean anything.
"""

import asyncio
import json
from typing import Final

import httpx
import msgspec

from loadtest.servers import Running, Start
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

Figures = dict[str, float]


class Load(msgspec.Struct, frozen=True):
    """How much."""

    connections: int = 1000
    size: int = 128
    rounds: int = 200


async def connect(start: Start, load: Load) -> Figures:
    """Open connections and leave them idle."""
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
    return {OPEN: cpu_s / load.connections * 1e6, RSS: rss / load.connections / 1024}


async def echo(start: Start, load: Load) -> Figures:
    """Every connection sends a message and waits for it, all at the same time."""
    async with start("echo") as server, swarm(server.port, load.connections, load.size) as clients:
        await clients.do("echo 20")  # warm
        used = await _used(server, clients, f"echo {load.rounds}")
    return {ECHO: used / (load.rounds * load.connections) * 1e6}


async def fanout(start: Start, load: Load) -> Figures:
    """One connection sends, all receive; then 16 messages at once."""
    async with start("fanout") as server, swarm(server.port, load.connections, load.size) as clients:
        word, session = "fanout", ""
        if server.gateway is not None:
            word, session = "say", await _attach(server.gateway, clients)
        await clients.do(f"{word} 20 1 {session}")  # warm
        figures = {}
        for figure, rounds, batch in ((SINGLE, load.rounds, 1), (BATCH, max(load.rounds // 8, 1), _BATCH)):
            used = await _used(server, clients, f"{word} {rounds} {batch} {session}")
            figures[figure] = used / (rounds * batch * load.connections) * 1e6
    return figures


async def _used(server: Running, clients: Swarm, line: str) -> float:
    before = server.cpu_s()
    await clients.do(line)
    return server.cpu_s() - before


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
