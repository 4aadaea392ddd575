"""What nodes hear of each other through Redis, on each kind of Redis."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from loadtest.servers.redis import RedisClusterServers, RedisServer
from store.bus_redis import listener
from store.bus_redis.bus import RedisBus
from store.errors import Unavailable
from tests.store.backends.buses import OpenBus, started
from tests.store.bus_nodes import bus_nodes, is_heard
from tests.waiting import turns, until

Received = list[tuple[str, bytes]]


def nothing() -> None:
    """For those who are not concerned with gaps."""


async def test_what_one_node_offers_arrives_at_the_others_whole_and_in_order(open_node: OpenBus) -> None:
    here: Received = []
    there: Received = []
    channels = [f"s:{number}" for number in range(20)]
    payloads = [b"", b"\x00\xff\r\n", bytes(range(256)) * 300, *(b"%d" % number for number in range(200))]
    async with (
        open_node(lambda *heard: here.append(heard), nothing) as a,
        open_node(lambda *heard: there.append(heard), nothing) as b,
    ):
        for channel in channels:
            await b.subscribe(channel)
        for payload in payloads:
            for channel in channels:
                a.offer(channel, payload)
        await until(lambda: len(there) == len(channels) * len(payloads))
        for channel in channels:
            assert [payload for name, payload in there if name == channel] == payloads
        assert here == []
        assert (a.published, a.dropped, b.received, b.gaps) == (len(there), 0, len(there), 0)


async def test_ones_own_arrive_once_and_so_do_those_of_others(open_node: OpenBus) -> None:
    here: Received = []
    there: Received = []
    async with (
        open_node(lambda *heard: here.append(heard), nothing) as a,
        open_node(lambda *heard: there.append(heard), nothing) as b,
    ):
        await a.subscribe("a")
        await b.subscribe("a")
        a.offer("a", b"1")
        b.offer("a", b"2")
        await until(lambda: len(here) == len(there) == 2)
        # Echoes would have come by now: what is offered last arrives last.
        a.offer("a", b"3")
        b.offer("a", b"4")
        await until(lambda: len(here) >= 4 and len(there) >= 4)
        assert sorted(here) == sorted(there) == [("a", b"%d" % number) for number in (1, 2, 3, 4)]


async def test_a_payload_offered_when_subscribe_has_returned_arrives(open_node: OpenBus) -> None:
    heard: Received = []
    async with (
        open_node(lambda *_: None, nothing) as a,
        open_node(lambda *each: heard.append(each), nothing) as b,
    ):

        async def subscribe_and_hear(channel: str) -> None:
            await b.subscribe(channel)
            a.offer(channel, b"x")

        channels = [f"s:{number}" for number in range(1_000)]
        await asyncio.gather(*map(subscribe_and_hear, channels))
        await until(lambda: len(heard) == 1_000)
        assert {channel for channel, _ in heard} == set(channels)


async def test_who_no_longer_listens_hears_nothing_more_and_the_others_do(open_node: OpenBus) -> None:
    here: Received = []
    there: Received = []
    async with (
        open_node(lambda *_: None, nothing) as a,
        open_node(lambda *heard: here.append(heard), nothing) as b,
        open_node(lambda *heard: there.append(heard), nothing) as c,
    ):
        for bus in (b, c):
            await bus.subscribe("a")
            await bus.subscribe("z")
        await b.unsubscribe("a")
        await b.subscribe("z")
        await b.subscribe("after")  # confirmed, and so is what was said before
        a.offer("a", b"1")
        a.offer("z", b"2")
        await until(lambda: len(there) == 2 and len(here) == 1)
        assert here == [("z", b"2")]


async def test_a_cancelled_subscribe_leaves_the_bus_whole(open_node: OpenBus) -> None:
    heard: Received = []
    async with (
        open_node(lambda *_: None, nothing) as a,
        open_node(lambda *each: heard.append(each), nothing) as b,
    ):
        tasks = [asyncio.ensure_future(b.subscribe(f"s:{number % 100}")) for number in range(200)]
        await turns(2)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        for number in range(0, 100, 2):
            await b.unsubscribe(f"s:{number}")
        await b.subscribe("s:0")
        for number in range(100):
            a.offer(f"s:{number}", b"x")
        expected = {"s:0", *(f"s:{number}" for number in range(1, 100, 2))}
        await until(lambda: {channel for channel, _ in heard} == expected)
        assert len(heard) == len(expected)
        assert b.gaps == 0


async def test_two_buses_of_one_prefix_and_two_prefixes_are_apart(redis7: RedisServer) -> None:
    heard: Received = []
    prefix = f"t{uuid4().hex[:8]}"
    buses = {
        "bus": RedisBus(redis7.url, prefix, "n", "bus"),
        "media": RedisBus(redis7.url, prefix, "n", "media"),
        "other": RedisBus(redis7.url, prefix + "x", "n", "bus"),
    }
    async with (
        started(buses["bus"], lambda channel, payload: heard.append(("bus", payload)), nothing),
        started(buses["media"], lambda channel, payload: heard.append(("media", payload)), nothing),
        started(buses["other"], lambda channel, payload: heard.append(("other", payload)), nothing),
        bus_nodes(redis7.url, 1, prefix) as (speaker,),
    ):
        for bus in buses.values():
            await bus.subscribe("s:1")
        speaker.bus.offer("s:1", b"chat")
        buses["media"].offer("s:1", b"chunk")
        buses["other"].offer("s:1", b"others")
        # Whatever was on its way has arrived when what comes after it has.
        speaker.bus.offer("s:1", b"last")
        await until(lambda: ("bus", b"last") in heard and len(heard) >= 4)
        assert sorted(heard) == [
            *(("bus", b"chat"), ("bus", b"last")),
            *(("media", b"chunk"), ("other", b"others")),
        ]


async def test_a_thousand_subscriptions_at_once_go_out_together(redis7: RedisServer) -> None:
    async with bus_nodes(redis7.url, 1) as (node,):
        before = int(redis7.run("INFO", "stats")["total_reads_processed"])
        await asyncio.gather(*(node.bus.subscribe(f"s:{number}") for number in range(1_000)))
        reads = int(redis7.run("INFO", "stats")["total_reads_processed"]) - before
        # Redis reads 16 KiB at a time; probes and the INFO itself are among these.
        assert reads < 20


async def test_what_is_offered_in_one_turn_reaches_redis_in_one_write(redis7: RedisServer) -> None:
    async with bus_nodes(redis7.url, 2) as (here, there):
        await there.bus.subscribe("a")
        before = int(redis7.run("INFO", "stats")["total_reads_processed"])
        tasks = asyncio.all_tasks()
        for _ in range(200):
            here.bus.offer("a", b"x" * 20)
        assert asyncio.all_tasks() == tasks
        await until(lambda: len(there.received) == 200)
        assert int(redis7.run("INFO", "stats")["total_reads_processed"]) - before < 15


async def test_channels_of_a_cluster_spread_over_its_shards(redis_cluster: RedisClusterServers) -> None:
    async with bus_nodes(redis_cluster.url, 1) as (node,):
        await asyncio.gather(*(node.bus.subscribe(f"s:{uuid4()}") for _ in range(300)))
        shares = [
            len(server.run("PUBSUB", "SHARDCHANNELS", f"{node.prefix}:*")) - 1  # its own probe
            for server in redis_cluster.nodes
        ]
        assert sum(shares) == 300
        assert min(shares) > 50


async def test_a_message_of_a_cluster_stays_in_its_shard(redis_cluster: RedisClusterServers) -> None:
    async with bus_nodes(redis_cluster.url) as (here, there):
        await there.bus.subscribe("a")
        before = [sent_between_nodes(server) for server in redis_cluster.nodes]
        for _ in range(500):
            here.bus.offer("a", b"x")
        await until(lambda: len(there.received) == 500)
        after = [sent_between_nodes(server) for server in redis_cluster.nodes]
        assert sum(after) - sum(before) < 100, "each payload crosses the cluster"


def sent_between_nodes(server: RedisServer) -> int:
    told = dict(line.split(":") for line in server.run("CLUSTER", "INFO").splitlines())
    return int(told.get("cluster_stats_messages_publish_sent", 0))


# -- who is let in


USER = "~* &{prefix}:* -@all +auth +client|setname +publish +subscribe +unsubscribe"


async def test_tls_and_a_user_with_few_rights_are_enough(tmp_path: Path) -> None:
    with RedisServer.start(tmp_path, version="installed", tls=True) as server:
        prefix = "few"
        rights = USER.format(prefix=prefix).split()
        server.run("ACL", "SETUSER", "gw", "on", ">s3cret", "resetchannels", *rights)
        url = server.url.replace("rediss://", "rediss://gw:s3cret@")
        async with bus_nodes(url, prefix=prefix) as (here, there):
            assert (here.bus.state, there.bus.state) == ("up", "up")
            await there.bus.subscribe("a")
            await is_heard(here, there, "a")
        async with bus_nodes(url, 1, prefix="not-allowed") as (node,):
            with pytest.raises(Unavailable):
                await node.bus.subscribe("a")
            assert node.bus.state == "away"


async def test_a_wrong_password_is_told_and_the_right_one_heals(
    redis7: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    user = f"u{uuid4().hex[:8]}"
    url = redis7.url.replace("redis://", f"redis://{user}:right@")
    async with bus_nodes(url, 1, prefix=user) as (node,):
        assert node.bus.state == "away"
        with pytest.raises(Unavailable):
            await node.bus.subscribe("a")
        assert "WRONGPASS" in capsys.readouterr().out
        redis7.run("ACL", "SETUSER", user, "on", ">right", "resetchannels", *USER.format(prefix=user).split())
        await node.until_up(gaps=1)
        await node.bus.subscribe("a")
    redis7.run("ACL", "DELUSER", user)


async def test_who_asks_for_a_password_is_told_that_the_url_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RedisServer.start(tmp_path) as server:
        server.run("CONFIG", "SET", "requirepass", "s3cret")
        async with bus_nodes(server.url, 1) as (node,):
            assert node.bus.state == "away"
        assert "Redis asks for a password, and the URL has none" in capsys.readouterr().out


async def test_many_channels_are_subscribed_again_in_batches(
    redis7: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "BATCH", 10)
    async with bus_nodes(redis7.url) as (here, there):
        channels = [f"s:{number}" for number in range(105)]
        await asyncio.gather(*map(there.bus.subscribe, channels))
        listening, _ = there.connections(redis7)
        redis7.run("CLIENT", "KILL", "ID", listening)
        await there.until_up(gaps=1)
        for channel in channels:
            here.bus.offer(channel, b"x")
        await until(lambda: len(there.received) == 105)
