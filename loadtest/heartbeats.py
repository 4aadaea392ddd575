"""What it costs to have connections that only heartbeat: a gateway on Redis, each connection in a session.

The gateway, Redis and Postgres run in processes of their own, the clients in this one. Beside them the floor
in C (loadtest/native) echoes for as many connections at the same pace: what a frame that comes alone costs on
this machine, in the same seconds. Heartbeats are spread over the interval as chance has it.
"""

import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Final

import click
import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from loadtest.contenders import Running, floor
from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer
from store.open import Places, migrate_log
from tests.process import GatewayProcess

# DESIGN, part 6.
BUDGET_CONNECTIONS: Final = 20_000
BUDGET_CORE: Final = 0.05

# How many open at the same time. All come from one address.
_AT_ONCE: Final = 100
# After the last one has attached: what its coming has set going is over.
_SETTLED_S: Final = 10.0
_ROOMY: Final = {
    "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "100000",
    "GATEWAY_MAX_ACCEPTS_PER_S": "10000",
    "GATEWAY_LOG_LEVEL": "warning",
}


_HEARTBEAT: Final = b'{"type":"heartbeat"'


class Load(msgspec.Struct, frozen=True):
    """Who is connected: so many, so many of them in each session, a heartbeat of each in so many seconds."""

    connections: int
    in_session: int
    heartbeat_s: float


class Figures(msgspec.Struct, frozen=True):
    """What one stretch of time cost, in seconds of CPU. Redis reads 16 KiB at a time."""

    seconds: float
    heartbeats: int
    echoes: int
    gateway_s: float
    floor_s: float
    redis_s: float
    redis_reads: int

    def since(self, earlier: "Figures") -> "Figures":
        """What has been added."""
        names = self.__struct_fields__
        return Figures(**{name: getattr(self, name) - getattr(earlier, name) for name in names})

    def __str__(self) -> str:
        gateway, redis = self.gateway_s / self.seconds, self.redis_s / self.seconds
        beats, reads = self.heartbeats / self.seconds, self.redis_reads / self.seconds
        rates = f"{beats:7.1f} heartbeats/s {reads:6.1f} reads/s"
        return f"{rates}   gateway {gateway:6.2%}, Redis {redis:6.2%} of a core"


class Client(WSListener):
    """One connection that says something again and again."""

    def __init__(self, greeting: list[dict[str, object]]) -> None:
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # its session
        self.answered = 0
        self._greeting = greeting
        self._transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        for frame in self._greeting:
            self._say(frame)
        if not self._greeting:
            self.ready.set_result("")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.TEXT:
            data = frame.get_payload_as_bytes()
            if data.startswith(_HEARTBEAT):
                self.answered += 1
            elif data.startswith(b'{"type":"attached"'):
                self.ready.set_result(json.loads(data)["session"])
            elif data.startswith(b'{"type":"error"'):
                raise RuntimeError(data.decode())

    async def beat(self, interval_s: float) -> None:
        """Heartbeat for ever."""
        await asyncio.sleep(random.uniform(0, interval_s))  # noqa: S311
        while True:
            self._say({"type": "heartbeat", "ts": int(time.time() * 1000)})
            await asyncio.sleep(interval_s)

    def _say(self, frame: dict[str, object]) -> None:
        self._transport.send(WSMsgType.TEXT, json.dumps(frame, separators=(",", ":")).encode())


class Ground:
    """The processes that are measured."""

    def __init__(self, gateway: GatewayProcess, floor: Running, redis: RedisServer) -> None:
        self.gateway = gateway
        self.redis = redis
        self._processes = Running(gateway.pid, gateway.port), floor, Running(redis.pid, redis.port)
        self.clients: list[Client] = []
        self.echoed: list[Client] = []

    @property
    def floor_port(self) -> int:
        """Where the floor is."""
        return self._processes[1].port

    async def stretch(self, seconds: float) -> Figures:
        """Let time pass, and say what it has cost."""
        before = self._now()
        await asyncio.sleep(seconds)
        return self._now().since(before)

    def _now(self) -> Figures:
        reads = int(self.redis.run("INFO", "stats")["total_reads_processed"])
        heartbeats, echoes = (sum(each.answered for each in group) for group in (self.clients, self.echoed))
        gateway_s, floor_s, redis_s = (each.cpu_s() for each in self._processes)
        return Figures(time.monotonic(), heartbeats, echoes, gateway_s, floor_s, redis_s, reads)


async def measure(load: Load, seconds: float) -> tuple[Figures, Figures]:
    """Measure a gateway with nobody connected, for ten seconds, and then with so many."""
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
        }
        async with GatewayProcess(data, env=env) as gateway, floor("echo") as echo:
            return await _measured(Ground(gateway, echo, redis), load, seconds)


async def _measured(ground: Ground, load: Load, seconds: float) -> tuple[Figures, Figures]:
    empty = await ground.stretch(10.0)
    doors = asyncio.Semaphore(_AT_ONCE)
    echo_url = f"ws://127.0.0.1:{ground.floor_port}/ws"

    async def user(number: int) -> list[Client]:
        """As many connections of one user as share a session."""
        hello: dict[str, object] = {"type": "hello", "token": ground.gateway.token(f"user-{number}")}
        first: dict[str, object] = {"type": "open", "id": "open"}
        clients: list[Client] = []
        for _ in range(load.in_session):
            clients.append(await _connected(ground.gateway.ws_url, [hello, first], doors))
            first = {"type": "attach", "id": "attach", "session": clients[0].ready.result()}
        return clients

    users = await asyncio.gather(*map(user, range(load.connections // load.in_session)))
    ground.clients = [client for clients in users for client in clients]
    echoes = [_connected(echo_url, [], doors) for _ in ground.clients]
    ground.echoed = await asyncio.gather(*echoes)
    loop = asyncio.get_running_loop()
    beats = [loop.create_task(each.beat(load.heartbeat_s)) for each in (*ground.clients, *ground.echoed)]
    await asyncio.sleep(load.heartbeat_s + _SETTLED_S)
    full = await ground.stretch(seconds)
    for beat in beats:
        beat.cancel()
    await asyncio.gather(*beats, return_exceptions=True)
    return empty, full


async def _connected(url: str, greeting: list[dict[str, object]], doors: asyncio.Semaphore) -> Client:
    async with doors:
        client = Client(greeting)
        await ws_connect(lambda: client, url, enable_auto_pong=False)
        await client.ready
        return client


@click.command()
@click.option("--connections", default=5000, show_default=True, help="Clients, each in one session.")
@click.option("--in-session", default=1, show_default=True, help="Clients in each session, at most 10.")
@click.option("--heartbeat-s", default=25.0, show_default=True, help="Seconds between two of one client.")
@click.option("--seconds", default=50.0, show_default=True, help="How long to measure.")
def heartbeats(connections: int, in_session: int, heartbeat_s: float, seconds: float) -> None:
    """CPU of a gateway on Redis, and of Redis, for connections that only heartbeat; scaled to 20,000."""
    empty, full = uvloop.run(measure(Load(connections, in_session, heartbeat_s), seconds))
    click.echo(f"{'nobody':>12}  {empty}")
    click.echo(f"{connections:>12,}  {full}")
    idle = empty.gateway_s / empty.seconds
    spent = full.gateway_s / full.seconds - idle
    each_us = spent * full.seconds / full.heartbeats * 1e6
    floor_us = full.floor_s / full.echoes * 1e6
    scaled = idle + spent * BUDGET_CONNECTIONS / connections
    click.echo(f"gateway, CPU per heartbeat              {each_us:7.1f} µs")
    click.echo(f"floor in C, CPU per echo at that pace   {floor_us:7.1f} µs  (× {each_us / floor_us:.1f})")
    budget = f"(budget {BUDGET_CORE:.0%})"
    click.echo(f"scaled to {BUDGET_CONNECTIONS:,} connections             {scaled:8.2%} of a core {budget}")


if __name__ == "__main__":
    heartbeats()
