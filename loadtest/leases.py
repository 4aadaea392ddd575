"""`python -m loadtest.leases`: what it costs to keep connections alive in the indexes, on a Redis of its own.

Connections in one session each are renewed as a node does it, so many in a flush, in turn. CPU is this
process's and that of Redis, by /proc: the machine may be busy.
"""

import gc
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import click
import msgspec
import uvloop

from gateway import ids
from gateway.auth.identity import Identity
from gateway.runtime.connection import Connection
from gateway.runtime.leases import Leases, Marks
from gateway.runtime.node import Node
from gateway.runtime.resumption import Resumption, new_token
from gateway.server import relax_collector
from loadtest.servers.redis import RedisClusterServers, RedisServer
from store.live_redis.live import RedisLive

_HEARTBEAT_MS: Final = 25_000
_TIMEOUT_MS: Final = 60_000
_WINDOW_MS: Final = 120_000


class Figures(msgspec.Struct, frozen=True):
    """What one renewed connection costs: CPU in µs, and bytes written to Redis."""

    ours_us: float
    redis_us: float
    written: float


@click.command()
@click.option("--connections", default=18_000, show_default=True)
@click.option("--flush", default=180, show_default=True, help="Connections renewed together.")
@click.option("--rounds", default=3, show_default=True, help="Times each is renewed; the best one is shown.")
@click.option("--cluster", is_flag=True, help="On a cluster of three.")
def main(connections: int, flush: int, rounds: int, cluster: bool) -> None:
    """Measure what one renewal costs, the first (everything is new) and all others."""
    with tempfile.TemporaryDirectory() as folder:
        kind = RedisClusterServers if cluster else RedisServer
        with kind.start(Path(folder)) as servers:
            uvloop.run(measure(servers, connections, flush, rounds))


async def measure(servers: RedisServer | RedisClusterServers, count: int, together: int, rounds: int) -> None:
    """Print all figures."""
    live = RedisLive(servers.url, "gateway")
    nodes = [servers] if isinstance(servers, RedisServer) else servers.nodes
    resumption = Resumption(live, _WINDOW_MS)
    leases = Leases(
        live, cast(Marks, None), resumption, lambda entry, session: None, _HEARTBEAT_MS, _TIMEOUT_MS
    )
    connections = [connected() for _ in range(count)]
    relax_collector()
    before = resident()
    first = await renewed(leases, nodes, connections, together)
    gc.collect()
    kept = (resident() - before) / count
    others = [await renewed(leases, nodes, connections, together) for _ in range(rounds)]
    await live.close()
    click.echo(f"{count:,} connections, {together} in a flush    ours    Redis    written")
    for name, each in (("first", first), ("renewed", min(others, key=lambda each: each.ours_us))):
        click.echo(f"    {name:8}   {each.ours_us:6.2f} µs {each.redis_us:6.2f} µs {each.written:7.0f} bytes")
    click.echo(f"memory that the first one takes, for each connection: {kept:.0f} bytes")


def connected() -> Connection:
    """One connection of a user of its own, in a session of its own."""
    clock = SimpleNamespace(now_ms=lambda: int(time.time() * 1000))
    connection = Connection(cast(Node, _Home(clock)), ids.new_id(), None, ("192.0.2.77", 49_152))
    connection.user = ids.new_id()
    connection.identity = Identity("default", connection.user, frozenset(), 0, 0)
    connection.resume_token = new_token()
    session = ids.new_id()
    connection.attachments[session] = cast(Any, None)
    connection.seen[session] = 17
    return connection


class _Home:
    """What a connection knows of its node here."""

    id = "gateway-7f9c4d-1"

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock = clock
        self.lease = SimpleNamespace(incarnation="8f14e45f", is_running=True)


async def renewed(
    leases: Leases, nodes: list[RedisServer], connections: list[Connection], together: int
) -> Figures:
    """Renew each connection once."""
    written, redis_s, ours_s = input_of(nodes), cpu_of(nodes), time.process_time()
    for start in range(0, len(connections), together):
        for connection in connections[start : start + together]:
            leases.changed(connection)
        await leases.flush_live()
    ours_s, redis_s = time.process_time() - ours_s, cpu_of(nodes) - redis_s
    count = len(connections)
    return Figures(ours_s / count * 1e6, redis_s / count * 1e6, (input_of(nodes) - written) / count)


def input_of(nodes: list[RedisServer]) -> int:
    """Bytes that have been written to them."""
    return sum(int(node.run("INFO", "stats")["total_net_input_bytes"]) for node in nodes)


def cpu_of(nodes: list[RedisServer]) -> float:
    """Seconds of CPU that they have used."""
    return sum(int(Path(f"/proc/{node.pid}/schedstat").read_text("ascii").split()[0]) / 1e9 for node in nodes)


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096


if __name__ == "__main__":
    main()
