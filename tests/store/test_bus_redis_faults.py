"""Whatever happens to Redis or the way there: nothing raises, the bus says so, heals and tells of the gap."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import uvloop

from loadtest.servers.faults import CutAt, DropNext
from loadtest.servers.proxy import FaultProxy
from loadtest.servers.redis import RedisServer
from loadtest.servers.wire import Direction
from store.bus_redis import bus as bus_module
from store.bus_redis import keeper, link, server, speaker
from store.errors import Unavailable
from tests.store.bus_nodes import BusNode, bus_nodes, is_heard
from tests.waiting import later, turns, until

Pair = tuple[BusNode, BusNode]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes ten times as often, and a tenth of the patience: what takes 3 s in earnest takes 0.3 s here."""
    monkeypatch.setattr(bus_module, "TICK_S", 0.1)
    monkeypatch.setattr(server, "CONNECT_S", 0.3)
    monkeypatch.setattr(server, "TIMEOUT_S", 0.3)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that only this test breaks."""
    with RedisServer.start(tmp_path / "redis", version="installed") as started:
        yield started


@pytest.fixture
async def pair(redis: RedisServer) -> AsyncIterator[Pair]:
    """Two nodes, the second of which listens to `a`."""
    async with bus_nodes(redis.url) as (here, there):
        await there.bus.subscribe("a")
        await is_heard(here, there, "a")
        yield here, there


async def test_a_subscription_that_is_killed_comes_back_by_itself(
    pair: Pair, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = pair
    # It does not wait for the next probe to be up.
    monkeypatch.setattr(bus_module, "TICK_S", 3600.0)
    await later(0.2)
    redis.run("CLIENT", "KILL", "TYPE", "pubsub")
    await there.until_up(gaps=1)
    await is_heard(here, there, "a")
    assert (there.gaps, there.bus.gaps, there.bus.dropped) == (1, 1, 0)
    assert here.gaps == 0, "who listens to nothing has missed nothing"


async def test_what_is_offered_while_the_publishing_connection_is_renewed_arrives(
    pair: Pair, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "pause_s", lambda failures: 0.2)
    here, there = pair
    _, speaking = here.connections(redis)
    redis.run("CLIENT", "KILL", "ID", speaking)
    await until(lambda: here.bus.state == "away")
    for number in range(100):
        here.bus.offer("a", b"%d" % number)
    await until(lambda: there.payloads("a")[1:] == [b"%d" % number for number in range(100)])
    await here.until_up()
    assert here.bus.dropped == 0
    assert there.gaps == 0


async def test_redis_is_killed_and_comes_back(pair: Pair, redis: RedisServer) -> None:
    here, there = pair
    redis.kill()
    await until(lambda: here.bus.state == there.bus.state == "away")
    # Within a node all goes on.
    there.bus.offer("a", b"own")
    with pytest.raises(Unavailable):
        await there.bus.subscribe("b")
    there.bus.offer("b", b"own too")
    await until(lambda: there.received[1:] == [("a", b"own"), ("b", b"own too")])
    redis.again()
    await here.until_up()
    await there.until_up(gaps=1)
    await is_heard(here, there, "a")
    await is_heard(here, there, "b")
    assert there.gaps == 1


async def test_a_node_that_starts_without_redis_joins_when_it_is_there(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "START_S", 0.1)
    redis.kill()
    async with bus_nodes(redis.url) as (here, there):
        assert there.bus.state == "away"
        with pytest.raises(Unavailable):
            await there.bus.subscribe("a")
        redis.again()
        await here.until_up()
        await there.until_up(gaps=1)
        await is_heard(here, there, "a")


async def test_redis_stops_answering_for_a_while(pair: Pair, redis: RedisServer) -> None:
    here, there = pair
    redis.pause()
    await until(lambda: there.bus.state != "up")
    assert there.bus.state == "away", "it is Redis that has stopped: no node is deaf"
    before = there.bus.dropped
    await later(speaker.HELD_S)
    there.bus.offer("a", b"own")
    await until(lambda: ("a", b"own") in there.received)
    assert there.bus.dropped == before + 1
    redis.resume()
    await here.until_up()
    await there.until_up(gaps=1)
    await is_heard(here, there, "a")


async def test_flushing_redis_changes_nothing(pair: Pair, redis: RedisServer) -> None:
    here, there = pair
    redis.run("FLUSHALL")
    await is_heard(here, there, "a")
    assert (there.gaps, there.bus.state, there.bus.losses) == (0, "up", 0)


async def test_a_script_that_keeps_redis_busy_costs_nothing_but_time(pair: Pair, redis: RedisServer) -> None:
    here, there = pair
    spin = "local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < 1 do end"
    busy = asyncio.create_task(asyncio.to_thread(redis.run, "EVAL", spin, "0"))
    await is_heard(here, there, "a")
    await busy
    await here.until_up()
    await there.until_up()
    await is_heard(here, there, "a")


# -- the way there


@pytest.fixture
async def way(redis: RedisServer) -> AsyncIterator[FaultProxy]:
    async with await FaultProxy.start(("127.0.0.1", redis.port), speech="resp") as proxy:
        yield proxy


@pytest.fixture
async def far(redis: RedisServer, way: FaultProxy) -> AsyncIterator[Pair]:
    """Two nodes, the second of which listens to `a` and reaches Redis by the proxy."""
    prefix = f"t{uuid4().hex[:8]}"
    async with (
        bus_nodes(redis.url, 1, prefix) as (here,),
        bus_nodes(way.url_of(redis.url), 1, prefix) as (there,),
    ):
        await there.bus.subscribe("a")
        await is_heard(here, there, "a")
        yield here, there


async def test_a_connection_that_is_dead_and_does_not_say_so_is_noticed(far: Pair, way: FaultProxy) -> None:
    here, there = far
    way.black_hole()
    await until(lambda: there.bus.state != "up", within=2.0)
    assert there.bus.state == "away"
    with pytest.raises(Unavailable):
        await there.bus.subscribe("b")
    way.heal()
    await there.until_up(gaps=1)
    await is_heard(here, there, "a")
    await is_heard(here, there, "b")


async def test_a_bus_to_which_nothing_comes_is_deaf_until_something_does(far: Pair, way: FaultProxy) -> None:
    here, there = far
    swallow = way.add(DropNext(1_000_000))
    accepted = way.accepted
    await until(lambda: there.bus.state == "deaf", within=2.0)
    # It tries new connections, and is not deceived by their being there.
    await until(lambda: way.accepted >= accepted + 2)
    assert there.bus.state == "deaf"
    assert there.gaps == 0
    here.bus.offer("a", b"lost")
    there.bus.offer("a", b"own")
    await until(lambda: ("a", b"own") in there.received)
    way.remove(swallow)
    await there.until_up(gaps=1)
    await is_heard(here, there, "a")
    assert b"lost" not in there.payloads("a")
    assert here.bus.state == "up"


async def test_who_is_deaf_and_then_cannot_reach_redis_is_away(far: Pair, way: FaultProxy) -> None:
    _, there = far
    way.add(DropNext(1_000_000))
    await until(lambda: there.bus.state == "deaf", within=2.0)
    way.refuse()
    way.cut_all()
    await until(lambda: there.bus.state == "away")


async def test_a_bus_that_hears_others_is_not_deaf_though_its_probes_are_lost(
    far: Pair, way: FaultProxy
) -> None:
    here, there = far
    way.add(DropNext(1_000_000, match=lambda unit: unit.kind == "message" and b"probe" in unit.detail))
    losses = there.bus.losses
    for _ in range(40):
        await is_heard(here, there, "a")
        await later(0.02)
    assert (there.bus.state, there.bus.losses, there.gaps) == ("up", losses, 0)


async def test_subscribing_waits_no_longer_than_its_limit(
    far: Pair, way: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.bus_redis.listener.CONFIRM_S", 0.05)
    here, there = far
    way.add(DropNext(1, match=lambda unit: unit.kind == "subscribe" and b"{b}" in unit.data))
    with pytest.raises(Unavailable, match="has not confirmed"):
        await there.bus.subscribe("b")
    await is_heard(here, there, "a")


async def test_subscribers_are_not_kept_waiting_when_the_connection_is_lost(
    far: Pair, way: FaultProxy
) -> None:
    here, there = far
    way.hold()
    subscribing = [asyncio.create_task(there.bus.subscribe(f"s:{number}")) for number in range(100)]
    await turns(3)
    way.cut_all()
    outcomes = await asyncio.gather(*subscribing, return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    way.heal()
    await there.until_up(gaps=1)
    for number in range(100):
        await is_heard(here, there, f"s:{number}")


async def test_who_is_cut_off_each_time_comes_back_less_and_less_often(
    far: Pair, way: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = far
    cutting = way.add(
        CutAt(lambda unit: unit.kind == "subscribe", direction=Direction.TO_SERVER, times=1_000)
    )
    accepted = way.accepted
    way.cut_all()
    await later(1.0)
    # Two connections at once, then each in steps that double: 50, 100, 200, 400 ms and half of these.
    assert 4 <= way.accepted - accepted < 20
    told = capsys.readouterr().out
    assert told.count("bus_lost") == 2, "one line for each connection, however often it is tried"
    way.remove(cutting)
    await there.until_up(gaps=1)
    await is_heard(here, there, "a")


# -- what is too much


async def test_a_flood_of_media_is_cut_off_and_chat_is_not(redis: RedisServer) -> None:
    redis.run("CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 0 0")
    prefix = f"t{uuid4().hex[:8]}"
    media = [BusNode(redis.url, prefix, "media") for _ in range(2)]
    async with bus_nodes(redis.url, 2, prefix) as (here, there):
        for node in media:
            await node.bus.start(node.receive, node.gap)
        await there.bus.subscribe("s:1")
        await media[1].bus.subscribe("s:1")
        for number in range(100):
            here.bus.offer("s:1", b"%d" % number)
            media[0].bus.offer("s:1", b"x" * 100_000)
            await turns()
        await until(lambda: there.payloads("s:1") == [b"%d" % number for number in range(100)])
        await media[1].until_up(gaps=1)
        await is_heard(media[0], media[1], "s:1")
        assert media[1].bus.losses > 0
        assert (there.bus.losses, there.gaps, there.bus.state) == (0, 0, "up")
        for node in media:
            await node.bus.close()


async def test_what_redis_does_not_take_is_dropped_above_the_bound_and_counted(
    pair: Pair, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker, "WAITING_BYTES", 1_000_000)
    monkeypatch.setattr(bus_module, "TICK_S", 3600.0)
    here, there = pair
    redis.pause()
    # What the sockets of this machine hold for a server that does not read is some megabytes.
    for _ in range(400):
        here.bus.offer("a", b"x" * 50_000)
        await turns(2)
    assert here.bus.dropped > 100
    taken = here.bus.published
    redis.resume()
    await until(lambda: len(there.payloads("a")) == taken)
    await is_heard(here, there, "a")


async def test_in_an_outage_nothing_grows_and_nothing_stale_arrives_after_it(
    pair: Pair, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker, "HELD_PAYLOADS", 100)
    here, there = pair
    redis.kill()
    await until(lambda: here.bus.state == there.bus.state == "away")
    for _ in range(1_000):
        here.bus.offer("a", b"stale")
    assert here.bus.dropped == 900
    await until(lambda: here.bus.dropped == 1_000, what="what was held is let go of")
    redis.again()
    await here.until_up()
    await there.until_up(gaps=1)
    await is_heard(here, there, "a")
    assert b"stale" not in there.payloads("a")


async def test_a_burst_leaves_turns_to_others_and_redis_keeps_what_waits(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "SLICE_S", 0.0)
    here, there = pair
    for number in range(2_000):
        here.bus.offer("a", b"%d" % number)
    gaps: list[int] = []
    while len(there.received) < 2_001:
        before = len(there.received)
        await turns()
        gaps.append(len(there.received) - before)
    assert max(gaps) <= 2, "one in a turn, and one that is read in it"
    assert there.payloads("a")[1:] == [b"%d" % number for number in range(2_000)]


async def test_many_losses_leave_nothing_behind(
    pair: Pair, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "pause_s", lambda failures: 0.01)
    here, there = pair
    tasks = len(asyncio.all_tasks())
    for loss in range(1, 21):
        redis.run("CLIENT", "KILL", "TYPE", "pubsub")
        if loss % 5 == 0:
            redis.run("CLIENT", "KILL", "TYPE", "normal")
        await there.until_up(gaps=loss)
        await here.until_up()
        await is_heard(here, there, "a")
    assert len(asyncio.all_tasks()) == tasks
    gc.collect()
    links = [each for each in gc.get_objects() if type(each) is link.Link]
    assert len(links) == 4, "two connections of each of the two"


# -- the end


async def test_closing_leaves_no_connection_and_no_task(redis: RedisServer) -> None:
    before = asyncio.all_tasks()
    async with bus_nodes(redis.url) as (here, there):
        await there.bus.subscribe("a")
        assert {here.id, there.id} <= names(redis)
        # More than the sockets between here and Redis hold.
        for _ in range(10_000):
            here.bus.offer("a", b"x" * 1_000)
        here.bus.offer("a", b"offered last")
        await here.bus.close()
        await until(lambda: len(there.received) == 10_001)
        assert there.received[-1] == ("a", b"offered last")
        here.bus.offer("a", b"too late")
        await there.bus.close()
        await there.bus.close()
        assert asyncio.all_tasks() == before
        await until(lambda: not {here.id, there.id} & names(redis))


def names(redis: RedisServer) -> set[str]:
    """Which nodes are among the clients of Redis."""
    clients = redis.run("CLIENT", "LIST").splitlines()
    return {
        field.removeprefix("name=").partition(":")[0]
        for client in clients
        for field in client.split()
        if field.startswith("name=")
    }


@pytest.mark.parametrize("state", ["paused", "killed"])
async def test_closing_while_redis_is_away_takes_no_time(pair: Pair, redis: RedisServer, state: str) -> None:
    _, there = pair
    if state == "paused":
        redis.pause()
        there.bus.offer("a", b"x" * 1_000_000)
    else:
        redis.kill()
    begun = asyncio.get_running_loop().time()
    subscribing = asyncio.create_task(there.bus.subscribe("b"))
    await turns(2)
    await there.bus.close()
    assert asyncio.get_running_loop().time() - begun < 1.0
    with pytest.raises(Unavailable):
        await subscribing
    redis.resume()


async def test_a_start_that_is_cancelled_leaves_nothing(redis: RedisServer) -> None:
    redis.pause()
    node = BusNode(redis.url, "t")
    starting = asyncio.create_task(node.bus.start(node.receive, node.gap))
    await turns(3)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await node.bus.close()
    redis.resume()


def test_the_loop_of_production_does_all_this_too(redis: RedisServer) -> None:
    async def go() -> None:
        async with bus_nodes(redis.url) as (here, there):
            await asyncio.gather(*(there.bus.subscribe(f"s:{number}") for number in range(500)))
            redis.run("CLIENT", "KILL", "TYPE", "pubsub")
            await there.until_up(gaps=1)
            for number in range(500):
                here.bus.offer(f"s:{number}", b"x" * 1_000)
            await until(lambda: len(there.received) == 500)
            redis.kill()
            await until(lambda: there.bus.state == "away")
            redis.again()
            await here.until_up()
            await there.until_up(gaps=2)
            await is_heard(here, there, "s:1")
            redis.pause()
            await until(lambda: there.bus.state == "away")
            redis.resume()
            await there.until_up(gaps=3)
            await here.until_up()
            await is_heard(here, there, "s:1")

    uvloop.run(go())
