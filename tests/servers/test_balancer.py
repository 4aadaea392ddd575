"""The balancer spreads connections over the nodes that want them, and gets in nobody's way."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import uvloop

from loadtest.cluster import balancer as module
from loadtest.cluster.balancer import Balancer, Target
from tests.waiting import turns, until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Node:
    """Says its name to whoever connects and sends back what comes; its operations port answers as told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: bytes | None = b"HTTP/1.1 200 OK\r\n\r\n"
        self.asked = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self._servers: list[asyncio.Server] = []

    async def start(self) -> Target:
        ports = []
        for serve in (self._echo, self._health):
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            self._servers.append(server)
            ports.append(server.sockets[0].getsockname()[1])
        return Target(self.name, *ports)

    async def stop_listening(self) -> None:
        self._servers[0].close()
        await turns(2)

    async def die(self) -> None:
        self.is_reading.set()
        for server in self._servers:
            server.close()
        for writer in list(self.open):
            writer.transport.abort()
        await until(lambda: not self.open)

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            writer.write(self.name.encode() + b"\n")
            while True:
                await self.is_reading.wait()
                if not (data := await reader.read(65536)):
                    break
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()
            self.open.discard(writer)

    async def _health(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.answer is not None:
            writer.write(self.answer)
        else:
            await reader.read(-1)
        writer.close()


class Bench:
    """Three nodes behind a balancer, and clients."""

    def __init__(self) -> None:
        self.nodes = [Node(name) for name in ("n1", "n2", "n3")]
        self.told: list[str] = []
        self._clients: list[asyncio.StreamWriter] = []

    async def start(self, limit: int = 100) -> None:
        targets = [await node.start() for node in self.nodes]
        self.balancer = Balancer(targets, tell=self.told.append, limit=limit)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        await self.balancer.start(listening)

    async def connect(self) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.balancer.port)
        self._clients.append(writer)
        return reader, writer

    async def names(self, count: int) -> list[str]:
        pairs = [await self.connect() for _ in range(count)]
        return [(await reader.readline()).decode().strip() for reader, _ in pairs]

    async def close(self) -> None:
        for writer in self._clients:
            writer.transport.abort()
        await self.balancer.close()
        for node in self.nodes:
            await node.die()
        await turns(5)


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_EVERY_S", 0.02)
    monkeypatch.setattr(module, "_CHECK_WITHIN_S", 0.3)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.start()
    yield bench
    await bench.close()


async def test_connections_are_spread_evenly(bench: Bench) -> None:
    names = await bench.names(9)
    assert sorted(names) == ["n1"] * 3 + ["n2"] * 3 + ["n3"] * 3


async def test_who_has_fewer_gets_the_next(bench: Bench) -> None:
    pairs = [await bench.connect() for _ in range(6)]
    owners = [(await reader.readline()).strip() for reader, _ in pairs]
    for owner, (_, writer) in zip(owners, pairs, strict=True):
        if owner == b"n2":
            writer.close()
    await until(lambda: bench.balancer.connections == 4)
    assert await bench.names(2) == ["n2", "n2"]


async def test_a_node_that_is_not_ready_gets_nothing_new_and_keeps_what_it_has(bench: Bench) -> None:
    pairs = [await bench.connect() for _ in range(3)]
    names = [await reader.readline() for reader, _ in pairs]
    reader, writer = pairs[names.index(b"n2\n")]
    bench.nodes[1].answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    await until(lambda: not bench.balancer.targets[1].is_ready)
    assert set(await bench.names(6)) == {"n1", "n3"}
    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    bench.nodes[1].answer = b"HTTP/1.1 200 OK\r\n\r\n"
    await until(lambda: bench.balancer.targets[1].is_ready)
    assert "n2" in await bench.names(3)
    assert bench.told[-2:] == ["n2 is not ready: it gets no new clients", "n2 is ready"]


async def test_one_late_answer_is_forgiven_and_two_are_not(bench: Bench) -> None:
    node, target = bench.nodes[2], bench.balancer.targets[2]
    asked = node.asked
    node.answer = None
    await until(lambda: node.asked >= asked + 2)
    assert target.is_ready
    await until(lambda: not target.is_ready)
    assert node.asked >= asked + 2


async def test_a_node_that_has_died_is_passed_over_before_the_next_check(bench: Bench) -> None:
    await bench.nodes[0].stop_listening()
    assert set(await bench.names(6)) == {"n2", "n3"}


async def test_with_no_node_left_whoever_comes_is_sent_away(bench: Bench) -> None:
    for node in bench.nodes:
        await node.die()
    reader, _ = await bench.connect()
    assert await ended(reader)
    assert bench.balancer.connections == 0


async def test_when_a_node_dies_its_clients_are_cut_off_and_the_others_are_not(bench: Bench) -> None:
    pairs = [await bench.connect() for _ in range(3)]
    names = [await reader.readline() for reader, _ in pairs]
    await bench.nodes[0].die()
    for name, (reader, writer) in zip(names, pairs, strict=True):
        if name == b"n1\n":
            assert await ended(reader)
            writer.close()
        else:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
    await until(lambda: bench.balancer.connections == 2)


async def test_a_reset_of_a_client_reaches_its_node(bench: Bench) -> None:
    reader, writer = await bench.connect()
    await reader.readline()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    await until(lambda: not any(node.open for node in bench.nodes))
    await until(lambda: bench.balancer.connections == 0)


async def test_a_client_that_never_closes_is_not_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LINGER_S", 0.05)
    await bench.names(3)
    await bench.nodes[0].die()
    await until(lambda: bench.balancer.connections == 2)


async def test_an_end_in_one_direction_leaves_the_other_open(bench: Bench) -> None:
    reader, writer = await bench.connect()
    data = bytes(range(256)) * 20_000
    writer.write(data)
    writer.write_eof()
    assert (await reader.read(-1))[3:] == data
    await until(lambda: bench.balancer.connections == 0)


async def test_a_node_that_does_not_read_stops_its_client_and_nothing_is_lost(bench: Bench) -> None:
    reader, writer = await bench.connect()
    await reader.readline()
    for node in bench.nodes:
        node.is_reading.clear()
    sent = 0
    while sent < 64 * 2**20:
        writer.write(bytes(2**20))
        sent += 2**20
        try:
            await asyncio.wait_for(writer.drain(), 0.5)
        except TimeoutError:
            break
    assert sent < 64 * 2**20
    for node in bench.nodes:
        node.is_reading.set()
    writer.write_eof()
    assert len(await reader.read(-1)) == sent


async def test_above_its_limit_it_sends_away_and_below_it_takes_again() -> None:
    bench = Bench()
    await bench.start(limit=2)
    try:
        pairs = [await bench.connect() for _ in range(2)]
        for reader, _ in pairs:
            await reader.readline()
        assert await ended((await bench.connect())[0])
        pairs[0][1].close()
        await until(lambda: bench.balancer.connections == 1)
        assert len(await bench.names(1)) == 1
    finally:
        await bench.close()


def test_it_works_on_the_loop_of_make_cluster_too() -> None:
    """Clients that speak at once, and nodes that do."""

    async def scenario() -> None:
        bench = Bench()
        await bench.start()
        try:
            for number in range(30):
                reader, writer = await bench.connect()
                writer.write(b"%02d" % number)
                if number % 3 == 0:
                    writer.write_eof()
                async with asyncio.timeout(5):
                    assert (await reader.readline())[:1] == b"n"
                    assert await reader.readexactly(2) == b"%02d" % number
        finally:
            await bench.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


async def test_a_client_that_is_gone_before_a_node_was_found_leaves_nothing(bench: Bench) -> None:
    for number in range(20):
        _, writer = await bench.connect()
        await turns(number % 5)
        writer.transport.abort()
    await until(lambda: bench.balancer.connections == 0)
    await until(lambda: not any(node.open for node in bench.nodes))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the connection is over, by a close or a reset."""
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True
