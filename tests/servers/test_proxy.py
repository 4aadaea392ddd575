"""The proxy passes everything on, but for what it was told to do to it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from loadtest.servers.faults import CutAnswer, CutRequest, DropLast, DropSome, on_channel
from loadtest.servers.postgres import PostgresServer
from loadtest.servers.proxy import FaultProxy
from loadtest.servers.redis import RedisServer
from loadtest.servers.wire import Direction
from tests.waiting import turns, until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[FaultProxy, Connect]]:
    """A proxy before a server that sends back what comes; connections through it are closed at the end."""
    opened: list[asyncio.StreamWriter] = []
    served: list[asyncio.StreamWriter] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, await FaultProxy.start(server.sockets[0].getsockname()) as proxy:

        async def connect() -> Streams:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            opened.append(writer)
            return reader, writer

        yield proxy, connect
        for writer in opened:
            writer.close()
    await until(lambda: all(writer.is_closing() for writer in served))
    await turns(5)


async def test_everything_passes_and_an_end_is_an_end() -> None:
    data = bytes(range(256)) * 8192  # more than all buffers on the way
    async with echoing() as (proxy, connect):
        reader, writer = await connect()
        writer.write(data)
        writer.write_eof()
        assert await reader.read(-1) == data
        await until(lambda: proxy.connections == 0)
        assert (proxy.accepted, proxy.cuts) == (1, 0)


async def test_what_nobody_reads_is_not_gathered_in_the_proxy() -> None:
    async with echoing() as (proxy, connect):
        _, writer = await connect()
        proxy.hold(Direction.TO_CLIENT)
        written = 0
        while written < 64 * 2**20:
            writer.write(bytes(2**20))
            written += 2**20
            try:
                await asyncio.wait_for(writer.drain(), 1.0)
            except TimeoutError:
                break
        # What the kernel takes on both ways, twice, and half a mebibyte in the proxy.
        assert written < 64 * 2**20
        writer.transport.abort()


async def test_a_delay_is_added_to_each_way_and_keeps_the_order() -> None:
    async with echoing() as (proxy, connect):
        reader, writer = await connect()
        proxy.delay(0.05)
        begun = time.monotonic()
        for number in range(20):
            writer.write(b"%02d" % number)
            await turns()
        assert await reader.readexactly(40) == b"".join(b"%02d" % number for number in range(20))
        # A hundred ms, not twenty times that: what is on its way does not wait for what goes before it.
        assert 0.1 <= time.monotonic() - begun < 1.0


async def test_a_limit_holds_back_what_is_more() -> None:
    async with echoing() as (proxy, connect):
        reader, writer = await connect()
        proxy.limit(1_000_000, Direction.TO_SERVER)
        begun = time.monotonic()
        writer.write(bytes(300_000))
        await reader.readexactly(300_000)
        assert time.monotonic() - begun >= 0.2


async def test_in_a_black_hole_nothing_answers_until_it_is_healed() -> None:
    async with echoing() as (proxy, connect):
        old = await connect()
        old[1].write(b"before")
        assert await old[0].readexactly(6) == b"before"
        proxy.black_hole()
        new = await connect()
        for _, writer in (old, new):
            writer.write(b"hello")
        answers = [asyncio.ensure_future(reader.readexactly(5)) for reader, _ in (old, new)]
        await asyncio.wait(answers, timeout=0.2)
        assert not any(answer.done() for answer in answers)
        proxy.heal()
        assert await asyncio.gather(*answers) == [b"hello", b"hello"]


async def test_cutting_resets_all_connections_and_new_ones_work() -> None:
    async with echoing() as (proxy, connect):
        pairs = [await connect() for _ in range(3)]
        for reader, writer in pairs:
            writer.write(b"x")
            await reader.readexactly(1)
        # Also those in which something waits for the release.
        proxy.hold()
        for _, writer in pairs:
            writer.write(b"held")
        await turns(20)
        assert proxy.cut_all() == 3
        for reader, _ in pairs:
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
        await until(lambda: proxy.connections == 0)
        proxy.heal()
        reader, writer = await connect()
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"


async def test_whoever_is_refused_is_reset_and_those_before_go_on() -> None:
    async with echoing() as (proxy, connect):
        reader, writer = await connect()
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            await (await connect())[0].read(1)
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"


async def test_a_server_that_is_not_there_resets() -> None:
    async with await FaultProxy.start(("127.0.0.1", 1)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


def test_an_address_goes_through_the_proxy_with_all_that_belongs_to_it() -> None:
    proxy = FaultProxy(("127.0.0.1", 1), "bytes")
    proxy.port = 5
    assert proxy.url_of("postgresql://u:p%40@host:1/db?a=b") == "postgresql://u:p%40@127.0.0.1:5/db?a=b"
    assert proxy.url_of("redis://127.0.0.1:1") == "redis://127.0.0.1:5"
    with pytest.raises(ValueError, match="passed by"):
        proxy.url_of("redis+cluster://127.0.0.1:1")


# -- with Redis


async def received(pubsub: PubSub, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
        if message is None:
            break
        found.append(message["data"])
    return found


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_share_of_the_payloads_of_redis_is_lost_and_nothing_else(
    redis7: RedisServer, protocol: int
) -> None:
    channel = f"t{uuid4().hex[:8]}"
    async with (
        await FaultProxy.start(("127.0.0.1", redis7.port), speech="resp") as proxy,
        Redis.from_url(proxy.url_of(redis7.url), protocol=protocol) as client,
        Redis.from_url(redis7.url) as direct,
        client.pubsub() as pubsub,
    ):
        drops = proxy.add(DropSome(0.2, match=on_channel(channel.encode()), seed=3))
        await pubsub.subscribe(channel)
        await pubsub.get_message(timeout=5)
        for number in range(500):
            assert await client.incr(f"{channel}:n") == number + 1  # replies pass
            await direct.publish(channel, b"%d" % number)
        await until(lambda: drops.passed + drops.dropped == 500)
        got = await received(pubsub, drops.passed)
        assert 60 < drops.dropped < 140
        assert len(got) == drops.passed
        assert got == sorted(got, key=int)
        await direct.delete(f"{channel}:n")


async def test_the_last_payload_of_redis_before_a_pause_is_lost(redis62: RedisServer) -> None:
    channel = f"t{uuid4().hex[:8]}"
    async with (
        await FaultProxy.start(("127.0.0.1", redis62.port), speech="resp") as proxy,
        Redis.from_url(proxy.url_of(redis62.url)) as client,
        Redis.from_url(redis62.url) as direct,
        client.pubsub() as pubsub,
    ):
        drops = proxy.add(DropLast(0.2))
        await pubsub.subscribe(channel)
        await pubsub.get_message(timeout=5)
        for number in range(3):
            await direct.publish(channel, b"%d" % number)
        assert await received(pubsub, 2) == [b"0", b"1"]
        await until(lambda: drops.lost == 1)


# -- with Postgres


@pytest.fixture
async def table(postgres_url: str) -> str:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE said (text text)")
    await connection.close()
    return postgres_url


async def said(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row["text"] for row in await connection.fetch("SELECT text FROM said")]
    finally:
        await connection.close()


async def test_a_commit_whose_answer_is_cut_has_happened(table: str, postgres_server: PostgresServer) -> None:
    async with await FaultProxy.start(("127.0.0.1", postgres_server.port), speech="postgres") as proxy:
        fault = proxy.add(CutAnswer(lambda unit: unit.kind == "B" and b"second" in unit.data))
        connection = await asyncpg.connect(proxy.url_of(table))
        await connection.execute("INSERT INTO said VALUES ($1)", "first")
        with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError)):
            await connection.execute("INSERT INTO said VALUES ($1)", "second")
        assert (fault.cuts, proxy.cuts) == (1, 1)
        assert await said(table) == ["first", "second"]
        connection.terminate()


async def test_a_commit_that_is_cut_has_not_happened(table: str, postgres_server: PostgresServer) -> None:
    async with await FaultProxy.start(("127.0.0.1", postgres_server.port), speech="postgres") as proxy:
        connection = await asyncpg.connect(proxy.url_of(table))
        proxy.add(CutRequest(lambda unit: unit.kind == "Q" and unit.data[5:].startswith(b"COMMIT")))
        with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
            async with connection.transaction():
                await connection.execute("INSERT INTO said VALUES ('lost')")
        assert await said(table) == []
        connection.terminate()


async def test_who_asks_for_tls_in_vain_goes_on_without(table: str, postgres_server: PostgresServer) -> None:
    # The refusal is one byte, which is no message.
    async with await FaultProxy.start(("127.0.0.1", postgres_server.port), speech="postgres") as proxy:
        assert await said(proxy.url_of(table) + "?sslmode=prefer") == []


async def test_an_encrypted_conversation_passes(tmp_path: Path) -> None:
    with PostgresServer.start(tmp_path, tls=True, settings={"fsync": "off"}) as server:
        server.run("CREATE TABLE said (text text)")
        async with await FaultProxy.start(("127.0.0.1", server.port), speech="postgres") as proxy:
            assert await said(proxy.url_of(server.url("postgres"))) == []
