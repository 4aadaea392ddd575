"""What it costs to have connections that only heartbeat: a gateway on Redis, each connection in a session.

The gateway shares a core with the floor in C (loadtest/native), which echoes at the same pace for a part of
the connections. Clients, Redis and Postgres run on the other cores, since in life they are other machines.
Heartbeats are spread over the interval as chance has it.
"""

import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import click
import httpx
import msgspec
import psutil
import uvloop

from loadtest.beaters import SECRET, Beaters, beaters
from loadtest.contenders import Running, floor
from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer
from store.open import Places, migrate_log
from tests.process import GatewayProcess

# DESIGN, part 6.
BUDGET_CONNECTIONS: Final = 20_000
BUDGET_CORE: Final = 0.05

# What one process of clients has, and the floor.
_CLIENTS: Final = 6_000
# After the last one has attached: what its coming has set going is over.
_SETTLED_S: Final = 10.0
_TRIPS: Final = "store_redis_round_trips_total"
_ROOMY: Final = {
    "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "100000",
    "GATEWAY_MAX_ACCEPTS_PER_S": "10000",
    "GATEWAY_LOG_LEVEL": "warning",
    "GATEWAY_JWT_SECRET": SECRET,
}


class Load(msgspec.Struct, frozen=True):
    """Who is connected: so many, so many of them in each session, a heartbeat of each in so many seconds.

    What they send is gathered for so many milliseconds.
    """

    connections: int
    in_session: int
    heartbeat_s: float
    gather_ms: int


class Figures(msgspec.Struct, frozen=True):
    """What one stretch of time cost, in seconds of CPU. Trips: pipelines sent to Redis."""

    seconds: float
    heartbeats: int
    echoes: int
    gateway_s: float
    floor_s: float
    redis_s: float
    trips: int

    def since(self, earlier: "Figures") -> "Figures":
        """What has been added."""
        names = self.__struct_fields__
        return Figures(**{name: getattr(self, name) - getattr(earlier, name) for name in names})

    def __str__(self) -> str:
        gateway, redis = self.gateway_s / self.seconds, self.redis_s / self.seconds
        beats, trips = self.heartbeats / self.seconds, self.trips / self.seconds
        rates = f"{beats:7.1f} heartbeats/s {trips:6.1f} trips/s"
        return f"{rates}   gateway {gateway:6.2%}, Redis {redis:6.2%} of a core"


class Ground:
    """The processes that are measured, and those who keep them busy."""

    def __init__(self, gateway: GatewayProcess, floor: Running, redis: RedisServer) -> None:
        self.gateway = gateway
        self.redis = redis
        self.floor = floor
        self._processes = Running(gateway.pid, gateway.port), floor, Running(redis.pid, redis.port)
        self.clients: list[Beaters] = []
        self.echoed: list[Beaters] = []

    @property
    def rss_bytes(self) -> int:
        """What the gateway has in memory."""
        return self._processes[0].rss_bytes()

    async def stretch(self, seconds: float) -> Figures:
        """Let time pass, and say what it has cost."""
        before = await self._now()
        await asyncio.sleep(seconds)
        return (await self._now()).since(before)

    async def _now(self) -> Figures:
        trips = await self._trips()
        heartbeats = sum([await each.answered() for each in self.clients])
        echoes = sum([await each.answered() for each in self.echoed])
        gateway_s, floor_s, redis_s = (each.cpu_s() for each in self._processes)
        return Figures(time.monotonic(), heartbeats, echoes, gateway_s, floor_s, redis_s, trips)

    async def _trips(self) -> int:
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"{self.gateway.ops_url}/metrics")).text
        counted = [line.split()[-1] for line in text.splitlines() if line.startswith(_TRIPS)]
        if not counted:
            raise RuntimeError(f"the gateway's metrics have no {_TRIPS}")
        return int(sum(map(float, counted)))


def keep_apart(measured: tuple[int, ...], others: tuple[int, ...]) -> None:
    """Give one core to some processes and the rest of them to others, this one and its children among these.

    A machine of one core is left as it is.
    """
    first, *rest = sorted(os.sched_getaffinity(0))
    for pids, cores in ((measured, {first}), ((0, *others), set(rest) or {first})):
        for pid in pids:
            for thread in psutil.Process(pid or os.getpid()).threads():
                os.sched_setaffinity(thread.id, cores)


async def measure(load: Load, seconds: float) -> tuple[Figures, Figures, float]:
    """Measure a gateway with nobody connected, for ten seconds, and then with so many; KiB for each."""
    with (
        tempfile.TemporaryDirectory(prefix="heartbeats-") as folder,
        RedisServer.start(Path(folder) / "redis") as redis,
        PostgresServer.start(Path(folder) / "postgres") as postgres,
    ):
        data, url = Path(folder) / "gateway", postgres.database()
        await asyncio.to_thread(migrate_log, Places(data, database_url=url))
        env = {
            **_ROOMY,
            "GATEWAY_REDIS_URL": redis.url,
            "GATEWAY_DATABASE_URL": url,
            "GATEWAY_HEARTBEAT_MS": str(int(load.heartbeat_s * 1000)),
            "GATEWAY_QUIET_GATHER_MS": str(load.gather_ms),
        }
        async with GatewayProcess(data, env=env) as gateway, floor("echo") as echo:
            database = psutil.Process(postgres.pid)
            backends = tuple(each.pid for each in (database, *database.children(recursive=True)))
            keep_apart((gateway.pid, echo.pid), (redis.pid, *backends))
            return await _measured(Ground(gateway, echo, redis), load, seconds)


async def _measured(ground: Ground, load: Load, seconds: float) -> tuple[Figures, Figures, float]:
    empty = await ground.stretch(10.0)
    small = ground.rss_bytes
    pace = ("--heartbeat-s", str(load.heartbeat_s))
    async with AsyncExitStack() as clients:

        async def come(url: str, connections: int, *options: str) -> Beaters:
            count = ("--connections", str(connections))
            return await clients.enter_async_context(beaters(url, *count, *pace, *options))

        for start in range(0, load.connections, _CLIENTS):
            several = min(_CLIENTS, load.connections - start)
            ground.clients.append(
                await come(ground.gateway.ws_url, several, "--in-session", str(load.in_session))
            )
        floor_url = f"ws://127.0.0.1:{ground.floor.port}/ws"
        ground.echoed.append(await come(floor_url, min(_CLIENTS, load.connections), "--echo"))
        for each in (*ground.clients, *ground.echoed):
            await each.answer()
        await asyncio.sleep(load.heartbeat_s + _SETTLED_S)
        full = await ground.stretch(seconds)
        return empty, full, (ground.rss_bytes - small) / load.connections / 1024


@click.command()
@click.option("--connections", default=5000, show_default=True, help="Clients, each in one session.")
@click.option("--in-session", default=1, show_default=True, help="Clients in each session, at most 10.")
@click.option("--heartbeat-s", default=25.0, show_default=True, help="Seconds between two of one client.")
@click.option("--seconds", default=50.0, show_default=True, help="How long to measure.")
@click.option("--gather-ms", default=20, show_default=True, help="GATEWAY_QUIET_GATHER_MS of the gateway.")
def heartbeats(connections: int, in_session: int, heartbeat_s: float, seconds: float, gather_ms: int) -> None:
    """CPU of a gateway on Redis, and of Redis, for connections that only heartbeat; scaled to 20,000."""
    empty, full, kib = uvloop.run(measure(Load(connections, in_session, heartbeat_s, gather_ms), seconds))
    click.echo(f"{'nobody':>12}  {empty}")
    click.echo(f"{connections:>12,}  {full}")
    idle = empty.gateway_s / empty.seconds
    spent = full.gateway_s / full.seconds - idle
    each_us = spent * full.seconds / full.heartbeats * 1e6
    floor_us = full.floor_s / full.echoes * 1e6
    scaled = idle + spent * BUDGET_CONNECTIONS / connections
    click.echo(f"gateway, CPU per heartbeat              {each_us:7.1f} µs")
    click.echo(f"floor in C, CPU per echo at that pace   {floor_us:7.1f} µs  (× {each_us / floor_us:.1f})")
    click.echo(f"gateway, memory of a connection         {kib:7.1f} KiB")
    budget = f"(budget {BUDGET_CORE:.0%})"
    click.echo(f"scaled to {BUDGET_CONNECTIONS:,} connections             {scaled:8.2%} of a core {budget}")


if __name__ == "__main__":
    heartbeats()
