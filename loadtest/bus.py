"""`python -m loadtest.bus`: what a payload costs the bus on Redis, and how long it is on its way.

All on this machine. Who publishes the flood is a process of its own: the CPU counted is the receiver's.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import click
import redis
import uvloop
from redis.asyncio import Redis

from loadtest.servers.redis import RedisServer
from store.bus_redis.bus import RedisBus

PREFIX: Final = "load"
# What the flood may be ahead of the receiver: below what Redis would cut it off for.
AHEAD: Final = 2_000

Report = Callable[[int], None]
Receive = Callable[[str, Sequence[str], Report], Awaitable[None]]


class Load(NamedTuple):
    """What is measured with."""

    payloads: int
    channels: int
    size: int


class Latency(NamedTuple):
    """How long payloads were on their way."""

    p50_ms: float
    p99_ms: float


@click.group(invoke_without_command=True)
@click.option("--payloads", default=100_000, show_default=True)
@click.option("--channels", default=100, show_default=True)
@click.option("--size", default=300, show_default=True, help="Bytes of a payload.")
@click.option("--rounds", default=3, show_default=True, help="Medians of these are shown.")
@click.pass_context
def main(context: click.Context, /, rounds: int, **load: Any) -> None:
    """Measure receiving, publishing, subscribing, and the way from node to node."""
    if context.invoked_subcommand is None:
        with tempfile.TemporaryDirectory() as folder, RedisServer.start(Path(folder)) as server:
            click.echo(f"Redis {server.version_number}, payloads of {load['size']} bytes\n")
            uvloop.run(measure(server, Load(**load), rounds))


async def measure(server: RedisServer, load: Load, rounds: int) -> None:
    """Print all figures."""
    ours, theirs = [], []
    for _ in range(rounds):  # side by side: the machine is never the same for long
        ours.append(await flood(server.url, load, by_bus))
        theirs.append(await flood(server.url, load, by_library))
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    click.echo("received, CPU µs a payload")
    click.echo(f"    the bus              {statistics.median(ours):6.2f}")
    click.echo(f"    redis-py's PubSub    {statistics.median(theirs):6.2f}   {ratio:.1f} ×")
    click.echo("published, CPU µs a payload, 64 in a turn of the loop")
    sent = [await published(server.url, load, has_echo=False) for _ in range(rounds)]
    echoed = [await published(server.url, load, has_echo=True) for _ in range(rounds)]
    click.echo(f"    to others            {statistics.median(sent):6.2f}")
    click.echo(f"    and to oneself       {statistics.median(echoed):6.2f}   its echo included")
    click.echo("from node to node")
    for per_s in (1_000, 10_000):
        found = await latency(server.url, load, per_s)
        click.echo(f"    {per_s:6,} a second      p50 {found.p50_ms:.2f} ms, p99 {found.p99_ms:.2f} ms")
    subscribed_s, again_s = await subscriptions(server, 10_000)
    click.echo("10,000 channels")
    click.echo(f"    subscribed at once   {subscribed_s * 1000:6.0f} ms")
    click.echo(f"    again after a kill   {again_s * 1000:6.0f} ms   until the gap is told")


@asynccontextmanager
async def opened(url: str, received: Callable[[str, bytes], None]) -> AsyncIterator[RedisBus]:
    """Run the bus of one node."""
    bus = RedisBus(url, PREFIX, "n")
    await bus.start(received, lambda: None)
    try:
        yield bus
    finally:
        await bus.close()


def ignore(channel: str, payload: bytes) -> None:
    """Receive and do nothing."""


async def wait_for(condition: Callable[[], bool]) -> None:
    """Poll: what is waited for is the end of a measurement, not a part of it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


# -- receiving


async def flood(url: str, load: Load, receive: Receive) -> float:
    """Receive what another process publishes; CPU µs a payload."""
    names = [f"s:{number:036}" for number in range(load.channels)]
    publisher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.bus", "flood", url, str(load.channels), str(load.size)),
        stdin=asyncio.subprocess.PIPE,
    )
    orders = cast(asyncio.StreamWriter, publisher.stdin)
    received, ordered, begun = 0, 0, 0.0
    done = asyncio.Event()

    def report(count: int) -> None:
        nonlocal received, ordered, begun
        if not ordered:
            begun = time.process_time()
        received += count
        while ordered < load.payloads and ordered - received <= AHEAD:
            orders.write(f"{AHEAD}\n".encode())
            ordered += AHEAD
        if received >= load.payloads:
            done.set()

    receiving = asyncio.ensure_future(receive(url, names, report))
    await asyncio.wait([receiving, asyncio.ensure_future(done.wait())], return_when=asyncio.FIRST_COMPLETED)
    used = time.process_time() - begun
    receiving.cancel()
    await asyncio.wait([receiving])
    orders.close()
    await publisher.wait()
    return used / received * 1e6


async def by_bus(url: str, names: Sequence[str], report: Report) -> None:
    """Receive as a node does."""
    async with opened(url, lambda channel, payload: report(1)) as bus:
        await asyncio.gather(*(bus.subscribe(name) for name in names))
        report(0)
        await asyncio.Event().wait()


async def by_library(url: str, names: Sequence[str], report: Report) -> None:
    """Receive as the client library offers it."""
    async with Redis.from_url(url) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(*(f"{PREFIX}:bus:{{{name}}}" for name in names))
        for _ in names:
            await pubsub.get_message(timeout=1.0)
        report(0)
        while True:
            if await pubsub.get_message(ignore_subscribe_messages=True, timeout=None):
                report(1)


@main.command("flood", hidden=True)
@click.argument("url")
@click.argument("channels", type=int)
@click.argument("size", type=int)
def publish_flood(url: str, channels: int, size: int) -> None:
    """Publish as many payloads as each line of stdin says."""
    client = redis.Redis.from_url(url)
    names = [f"{PREFIX}:bus:{{s:{number:036}}}" for number in range(channels)]
    payload = b"another." + b"x" * size
    for line in sys.stdin:
        pipeline = client.pipeline(transaction=False)
        for number in range(int(line)):
            pipeline.publish(names[number % channels], payload)
        pipeline.execute()


# -- publishing


async def published(url: str, load: Load, *, has_echo: bool) -> float:
    """Publish; CPU µs a payload, with the reading of Redis's replies."""
    payload = b"x" * load.size
    async with opened(url, ignore) as bus:
        names = [f"s:{number:036}" for number in range(load.channels)]
        if has_echo:
            await asyncio.gather(*(bus.subscribe(name) for name in names))
        begun = time.process_time()
        for turn in range(load.payloads // 64):
            for number in range(64):
                bus.offer(names[(turn + number) % len(names)], payload)
            await asyncio.sleep(0)
            if turn % 16 == 0:
                await wait_for(lambda: not bus.unanswered)
        await wait_for(lambda: not bus.unanswered)
        return (time.process_time() - begun) / (load.payloads // 64 * 64) * 1e6


async def latency(url: str, load: Load, per_s: int, seconds: float = 3.0) -> Latency:
    """Send from one node to another at an even pace."""
    taken: list[float] = []

    def receive(channel: str, payload: bytes) -> None:
        taken.append(time.perf_counter() - float(payload.rstrip(b"x")))

    async with opened(url, receive) as there, opened(url, ignore) as here:
        await there.subscribe("s:1")
        begun = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - begun) < seconds:
            while sent < now * per_s:
                here.offer("s:1", str(time.perf_counter()).encode().ljust(load.size, b"x"))
                sent += 1
            await asyncio.sleep(0.001)
        await wait_for(lambda: len(taken) == sent)
    taken.sort()
    return Latency(*(taken[int(len(taken) * share)] * 1000 for share in (0.5, 0.99)))


# -- subscribing


async def subscriptions(server: RedisServer, count: int) -> tuple[float, float]:
    """Subscribe to many channels, and once more when the connection is cut; seconds."""
    gaps = asyncio.Event()
    bus = RedisBus(server.url, PREFIX, "n")
    await bus.start(ignore, gaps.set)
    try:
        begun = time.perf_counter()
        await asyncio.gather(*(bus.subscribe(f"s:{number:036}") for number in range(count)))
        subscribed = time.perf_counter() - begun
        begun = time.perf_counter()
        await asyncio.to_thread(server.run, "CLIENT", "KILL", "TYPE", "pubsub")
        await gaps.wait()
        return subscribed, time.perf_counter() - begun
    finally:
        await bus.close()


if __name__ == "__main__":
    main()
