"""The way to Redis when something goes wrong: bounded, healed, and never a reply for somebody else."""

import asyncio
import random
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import pytest
from redis.exceptions import ResponseError

from loadtest.servers.proxy import FaultProxy
from loadtest.servers.redis import RedisClusterServers, RedisServer
from store.errors import Unavailable
from store.redis_client import TIMEOUT_S, open_client
from store.redis_wire import lane as lane_module
from store.redis_wire.scripts import CALL_WRITES, Calls, Command, words
from store.redis_wire.wire import CONNECTIONS, Wire
from tests.store.wired import PUT_ONCE, REFUSED_WITHIN_S, TAKE_ONCE, answers, got, names, put, values, wired
from tests.waiting import later, turns, until


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that only this test breaks."""
    with RedisServer.start(tmp_path / "redis", version="installed") as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisClusterServers]:
    """A cluster that only this test breaks."""
    with RedisClusterServers.start(tmp_path / "cluster", version="installed") as started:
        yield started


def clients(server: RedisServer) -> int:
    """How many connections are open, that of the question included."""
    return len(str(server.run("CLIENT", "LIST")).splitlines())


# -- whose reply it is


async def test_whoever_is_cancelled_no_reply_reaches_another_caller_and_no_connection_is_lost(
    redis7: RedisServer,
) -> None:
    chance = random.Random(3)  # noqa: S311 - who gives up
    keys = names(60)
    async with (
        await FaultProxy.start(("127.0.0.1", redis7.port)) as proxy,
        wired(proxy.url_of(redis7.url)) as wire,
    ):
        await put(wire, keys)
        proxy.delay(0.005)
        right = 0
        for _ in range(30):
            asked = [chance.sample(keys, chance.randrange(1, 4)) for _ in range(40)]
            calls = [asyncio.ensure_future(got(wire, *each)) for each in asked]
            await turns(chance.randrange(6))
            for call in chance.sample(calls, 15):
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            for call, each in zip(calls, asked, strict=True):
                if not call.cancelled():
                    assert call.result() == values(*each)
                    right += 1
        assert right > 600
        assert proxy.accepted == 1


@pytest.mark.parametrize("server", ["redis62", "redis7", "redis_cluster"])
async def test_the_client_library_closes_the_connection_of_a_command_that_was_cancelled(
    request: pytest.FixtureRequest, server: str
) -> None:
    """Redis-py 8 gives no connection back on which a reply is still to come: lanes rely on it when closed."""
    servers = request.getfixturevalue(server)
    nodes = servers.nodes if isinstance(servers, RedisClusterServers) else [servers]
    client: Any = open_client(servers.url, connections=1)
    one, two = names(2)
    two = two.replace(":", f":{{{one}}}:")  # in the same slot, so on the same connection
    try:
        await client.set(f"{{{one}}}", "one", px=60_000)
        await client.set(two, "two", px=60_000)
        for use_pipeline in (False, True):
            for node in nodes:
                node.run("CLIENT", "PAUSE", "100")
            if use_pipeline:
                pipeline = client.pipeline() if len(nodes) > 1 else client.pipeline(False)
                call = asyncio.ensure_future(pipeline.get(f"{{{one}}}").get(f"{{{one}}}").execute())
            else:
                call = asyncio.ensure_future(client.get(f"{{{one}}}"))
            await turns(20)
            assert not call.done()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert await client.get(two) == b"two"
    finally:
        await client.aclose()


async def test_who_waits_when_the_way_is_closed_is_told_so(redis7: RedisServer) -> None:
    (key,) = names(1)
    async with await FaultProxy.start(("127.0.0.1", redis7.port)) as proxy:
        wire = Wire(proxy.url_of(redis7.url))
        await put(wire, [key])
        proxy.hold()
        calls = [asyncio.ensure_future(got(wire, key)) for _ in range(3)]
        await turns(5)
        calls.append(asyncio.ensure_future(got(wire, key)))
        await turns(2)
        await wire.close()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 4
        await wire.close()


# -- together


async def test_what_is_asked_at_the_same_time_leaves_in_one_pipeline(own: RedisServer) -> None:
    keys = names(300)
    async with wired(own.url) as wire:
        await put(wire, keys)
        reads = [own.run("INFO", "stats")["total_reads_processed"] for _ in range(2)]
        outcomes = await asyncio.gather(*(got(wire, key) for key in keys))
        reads.append(own.run("INFO", "stats")["total_reads_processed"])
        assert [value for (value,) in outcomes] == values(*keys)
        # 300 commands are one write, which Redis may take in two; to ask it for this takes it some as well.
        assert (reads[2] - reads[1]) - (reads[1] - reads[0]) <= 2
        assert clients(own) <= CONNECTIONS + 1


async def test_every_pipeline_is_counted_once_however_many_are_in_it(own: RedisServer) -> None:
    keys = names(300)
    async with wired(own.url) as wire:
        assert wire.round_trips == 0
        await put(wire, keys)
        await asyncio.gather(*(got(wire, key) for key in keys))
        assert wire.round_trips == 2
        await wire.close()
        assert wire.round_trips == 2


async def test_calls_for_many_are_cut_so_that_none_keeps_redis_for_long() -> None:
    for slot_in, expected in ((None, [2] * 4 + [0]), (_by_length, [2, 2, 0, 2, 2])):
        calls: Calls[int] = Calls(PUT_ONCE, slot_in, 60_000)
        subjects = range(2 * CALL_WRITES + 1)
        for subject in subjects:
            calls.add(subject, words("k" * (5 + subject % 2)), words(b"v"), 2)
        commands = calls.commands()
        assert [len(told) // (CALL_WRITES // 4) for _, told in commands] == expected
        assert sorted(subject for _, told in commands for subject in told) == list(subjects)
        for call, told in commands:
            assert call.packed().startswith(b"*%d\r\n" % (4 + 2 * len(told)))
            assert slot_in is None or {subject % 2 for subject in told} == {call.slot}


def _by_length(keys: bytes) -> int:
    return (len(keys) + 1) % 2


async def test_a_call_for_many_tells_of_each_by_its_place_and_is_told_in_full_where_it_is_unknown(
    own: RedisServer,
) -> None:
    keys = names(CALL_WRITES + 50)
    async with wired(own.url) as wire:
        await wire.call([TAKE_ONCE.call([key]) for key in keys])
        await wire.call([PUT_ONCE.call([key], 60_000, b"value") for key in keys])
        await wire.call([TAKE_ONCE.call([key]) for key in keys[::60]])
        own.run("SCRIPT", "FLUSH")
        calls: Calls[str] = Calls(PUT_ONCE, wire.slot_in, 60_000)
        calls.extend(keys, map(words, keys), repeat(words(b"other"), len(keys)), repeat(1, len(keys)))
        commands = calls.commands()
        replies = await wire.call([command for command, _ in commands])
        taken = [
            told[place - 1] for (_, told), places in zip(commands, replies, strict=True) for place in places
        ]
        assert taken == keys[::60]
        assert await wire.call([TAKE_ONCE.call([keys[1]])]) == [b"other"]


async def test_an_error_in_a_pipeline_is_told_to_its_own_caller_only(redis7: RedisServer) -> None:
    keys = names(20)
    async with wired(redis7.url) as wire:
        await put(wire, keys)
        calls = [got(wire, key) for key in keys]
        calls.insert(7, wire.call([Command(keys[0], ("INCR", keys[0]))]))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refused = outcomes.pop(7)
        assert isinstance(refused, Unavailable)
        assert isinstance(refused.__cause__, ResponseError)
        assert [each[0] for each in outcomes] == values(*keys)  # type: ignore[index]


# -- Redis is away


async def test_who_asks_a_redis_that_hangs_is_refused_in_time_however_many_ask(own: RedisServer) -> None:
    keys = names(2)
    async with wired(own.url) as wire:
        await put(wire, keys)
        own.pause()
        begun = time.monotonic()
        calls = [asyncio.ensure_future(got(wire, keys[0])) for _ in range(200)]
        await turns(5)
        calls += [asyncio.ensure_future(got(wire, keys[1])) for _ in range(200)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        assert time.monotonic() - begun < REFUSED_WITHIN_S
        # For a while nobody waits at all: whoever needs several answers has not to wait for each.
        begun = time.monotonic()
        for _ in range(10):
            with pytest.raises(Unavailable):
                await got(wire, keys[0])
        assert time.monotonic() - begun < TIMEOUT_S / 2
        own.resume()
        await until(lambda: answers(wire, keys[0]))
        assert await got(wire, *keys) == values(*keys)
        await until(lambda: clients(own) <= CONNECTIONS + 1)


async def test_a_redis_that_was_killed_is_used_again_as_soon_as_it_is_back(own: RedisServer) -> None:
    (key,) = names(1)
    async with wired(own.url) as wire:
        await put(wire, [key])
        own.kill()
        for _ in range(3):
            begun = time.monotonic()
            with pytest.raises(Unavailable, match="Redis does not answer"):
                await got(wire, key)
            assert time.monotonic() - begun < TIMEOUT_S
        with pytest.raises(Unavailable):
            await wire.ping()
        own.again()
        await wire.ping()
        assert await got(wire, key) == [None]


@pytest.mark.parametrize("server", ["own", "cluster"])
async def test_that_connections_were_killed_while_nobody_asked_is_not_noticed(
    request: pytest.FixtureRequest, server: str
) -> None:
    servers = request.getfixturevalue(server)
    keys = names(20)
    async with wired(servers.url) as wire:
        await put(wire, keys)
        for _ in range(5):
            for node in getattr(servers, "nodes", [servers]):
                node.run("CLIENT", "KILL", "TYPE", "normal")
            await later(0.05)  # the end of a connection takes its time
            assert await got(wire, *keys) == values(*keys)


async def test_a_connection_that_is_cut_under_a_pipeline_costs_that_pipeline(redis7: RedisServer) -> None:
    keys = names(40)
    async with (
        await FaultProxy.start(("127.0.0.1", redis7.port)) as proxy,
        wired(proxy.url_of(redis7.url)) as wire,
    ):
        await put(wire, keys)
        proxy.hold()
        calls = [asyncio.ensure_future(got(wire, key)) for key in keys[:20]]
        await turns(5)
        calls += [asyncio.ensure_future(got(wire, key)) for key in keys[20:]]
        await turns(2)
        proxy.release()
        proxy.cut_all()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes[:20]} == {Unavailable}
        assert [outcome[0] for outcome in outcomes[20:]] == values(*keys[20:])  # type: ignore[index]
        assert await got(wire, *keys) == values(*keys)


async def test_above_its_bound_the_waiting_line_takes_nobody_in(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "WAITING_BYTES", 2_000)
    (key,) = names(1)
    async with wired(own.url) as wire:
        await put(wire, [key])
        own.pause()
        calls = [asyncio.ensure_future(got(wire, key)) for _ in range(200)]
        await turns(10)
        refused = [call for call in calls if call.done()]
        assert len(refused) > 100
        with pytest.raises(Unavailable, match="too much is waiting"):
            refused[0].result()
        own.resume()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        served = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(served) == 200 - len(refused)


async def test_a_server_that_became_a_replica_is_left_for_whoever_has_its_name_now(
    own: RedisServer,
) -> None:
    (key,) = names(1)
    async with wired(own.url) as wire:
        await put(wire, [key])
        own.run("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Unavailable, match="Redis refuses a command"):
            await put(wire, [key])
        own.run("REPLICAOF", "NO", "ONE")
        before = own.run("INFO", "stats")["total_connections_received"]
        await put(wire, [key])
        # The test's own, and a new one of the wire's.
        assert own.run("INFO", "stats")["total_connections_received"] - before >= 2


@pytest.mark.parametrize("version", ["packaged", "installed"])
async def test_a_replica_is_known_by_what_it_says_to_a_script_whatever_its_version(
    version: Literal["packaged", "installed"], tmp_path: Path
) -> None:
    with RedisServer.start(tmp_path / "own", version=version) as server:
        async with wired(server.url) as wire:
            put_once = PUT_ONCE.call(["key"], 60_000, b"value")
            await wire.call([put_once])
            server.run("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(Unavailable, match="Redis refuses a command"):
                await wire.call([put_once])
            server.run("REPLICAOF", "NO", "ONE")
            before = server.run("INFO", "stats")["total_connections_received"]
            await wire.call([put_once])
            assert server.run("INFO", "stats")["total_connections_received"] - before >= 2


@pytest.mark.parametrize("server", ["redis62", "redis7", "redis_cluster"])
async def test_a_script_that_redis_has_forgotten_is_told_again(
    request: pytest.FixtureRequest, server: str
) -> None:
    servers = request.getfixturevalue(server)
    nodes = servers.nodes if isinstance(servers, RedisClusterServers) else [servers]
    keys = names(30)
    async with wired(servers.url) as wire:
        for _ in range(2):
            for node in nodes:
                node.run("SCRIPT", "FLUSH")
            calls = [wire.call([TAKE_ONCE.call([key])]) for key in keys]
            assert await asyncio.gather(*calls) == [[None]] * 30
            for node in nodes:
                node.run("SCRIPT", "FLUSH")
            assert await wire.call([TAKE_ONCE.call([key]) for key in keys]) == [None] * 30
