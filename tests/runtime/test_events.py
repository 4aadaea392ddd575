"""Joins and leaves become events: gathered, written once, over any number of nodes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.fanout import presence as presence_module
from gateway.runtime import events as events_module
from gateway.runtime import node as node_module
from gateway.runtime.events import Events
from gateway.runtime.webhook import Webhook, WebhookSettings
from store.errors import Unavailable
from store.log import Log
from store.log_sqlite.log import SqliteLog
from store.types import Event
from tests.auth.makers import StandingClock
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster, nodes
from tests.runtime.receiver import Receiver
from tests.runtime.test_presence_nodes import everything_is_told as presence_is_told
from tests.runtime.world import Client, world
from tests.store.making import entry, opened
from tests.store.nodes import WatchedLog
from tests.waiting import until

GRACE = presence_module.GRACE_S + 1


async def told(log: Log, user: str) -> list[Event]:
    events = await log.events(after=0, limit=10_000)
    return [event for event in events if event.actor == user and event.kind in ("joined", "left")]


async def kinds(cluster: Cluster, user: str) -> list[str]:
    return [event.kind for event in await told(cluster.log, user)]


async def everything_is_told(cluster: Cluster, after_s: float = 0.0) -> None:
    """Have the presence of everybody told, `after_s` from now, and the log as well."""
    await presence_is_told(cluster, after_s)
    for node in cluster.nodes:
        await node.events.flush()


async def enter(client: Client, session: str) -> None:
    assert (await client.ask("attach", session=session))["type"] == "attached"
    await until(lambda: not client.connection._is_busy)


async def test_a_user_joins_and_leaves_once_however_many_connections_come_and_go(place: Place) -> None:
    async with place(3) as cluster:
        olga = await cluster.client(0, "olga")
        session = await olga.open()
        await olga.world.join(olga, session, "bob")
        for _ in range(3):
            bobs = [await cluster.client(n % 3, "bob") for n in range(6)]
            await asyncio.gather(*(enter(bob, session) for bob in bobs))
            await everything_is_told(cluster)
            for bob in bobs:
                bob.vanish()
            await everything_is_told(cluster, GRACE)
        assert await kinds(cluster, "bob") == ["joined", "left"] * 3
        assert await kinds(cluster, "olga") == ["joined"]
        first = (await told(cluster.log, "bob"))[0]
        assert (first.session, first.tenant, first.version) == (session, "default", 2)
        assert b'"connection"' in first.data
        assert b'"node"' in first.data


async def test_a_reload_on_another_node_is_no_event(place: Place) -> None:
    async with place(2) as cluster:
        olga = await cluster.client(0, "olga")
        session = await olga.open()
        await olga.world.join(olga, session, "bob")
        bob = await cluster.client(0, "bob")
        await enter(bob, session)
        bob.vanish()
        await everything_is_told(cluster)
        again = await cluster.client(1, "bob")
        await enter(again, session)
        await everything_is_told(cluster, GRACE)
        assert await kinds(cluster, "bob") == ["joined"]


async def test_a_detach_leaves_after_the_grace(place: Place) -> None:
    async with place(1) as cluster:
        olga = await cluster.client(0, "olga")
        session = await olga.open()
        await olga.ask("detach", session=session)
        await everything_is_told(cluster)
        assert await kinds(cluster, "olga") == ["joined"]
        await everything_is_told(cluster, GRACE)
        assert await kinds(cluster, "olga") == ["joined", "left"]


async def test_nodes_deliver_what_their_clients_do_each_event_once(place: Place) -> None:
    async with Receiver() as receiver:
        settings = WebhookSettings(receiver.url, ("a secret of the tests, long enough to sign",), 5.0)
        async with place(2, webhook=settings) as cluster:
            clients = [await cluster.client(n % 2, f"u{n}") for n in range(6)]
            sessions = [await client.open() for client in clients]
            for client, session in zip(clients, sessions, strict=True):
                await client.ask("close", session=session)
            await everything_is_told(cluster)
            expected = [event.id for event in await cluster.log.events(after=0, limit=1000)]
            # Leaves may have followed meanwhile.
            await until(lambda: receiver.taken[: len(expected)] == expected, within=20)
            states = sorted(node.webhook.state for node in cluster.nodes)
            assert states == ["delivering", "standby"]
        by_kind = [event["kind"] for request in receiver.requests for event in request.events]
        assert [by_kind.count(kind) for kind in ("created", "joined", "closed")] == [6, 6, 6]


async def test_a_node_writes_joins_and_purges_old_events_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "PURGE_S", 0.05)
    async with nodes(tmp_path, 1, events_retention_h=1) as cluster:
        old = await opened(cluster.log)  # from last year
        olga = await cluster.client(0, "olga")
        await olga.open()

        async def is_done() -> bool:
            events = await cluster.log.events(after=0, limit=10)
            is_purged = old.id not in [event.session for event in events]
            return is_purged and "joined" in [event.kind for event in events]

        await until(is_done)
        assert cluster.nodes[0].events.purged == 1


async def test_a_node_that_stops_writes_what_it_has_gathered(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    async with world(tmp_path) as alone:
        olga = await alone.client("olga")
        session = await olga.open()
        await until(lambda: not olga.connection._is_busy)
        alone.node.events.left("default", session, "olga")
    await log.start()
    assert [event.kind for event in await told(log, "olga")] == ["joined", "left"]
    await log.close()


async def test_a_node_that_stops_lets_another_one_deliver_at_once(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        settings = WebhookSettings(receiver.url, ("a secret of the tests",), 60.0)
        async with world(tmp_path, webhook=settings) as alone:
            await until(lambda: alone.node.webhook.state == "delivering")
        log = SqliteLog(tmp_path)
        await log.start()
        successor = Webhook(settings, log, SystemClock(), "n2")
        await successor.deliver()
        assert successor.state == "delivering"
        await log.close()


# -- gathered


class Gathering:
    """What one node gathers, for a log that may be away."""

    def __init__(self, log: SqliteLog) -> None:
        self.truth = log
        self.log = WatchedLog(log)
        self.events = Events(self.log, StandingClock(), "n1", 1, has_webhook=False)

    async def users(self) -> list[str | None]:
        found = await self.truth.events(after=0, limit=100_000)
        return [event.actor for event in found if event.kind == "joined"]


@pytest.fixture
async def gathering(tmp_path: Path) -> AsyncIterator[Gathering]:
    log = SqliteLog(tmp_path)
    await log.start()
    yield Gathering(log)
    await log.close()


async def test_joins_go_to_the_log_together(gathering: Gathering) -> None:
    session = await opened(gathering.truth)
    for number in range(350):
        gathering.events.joined(entry(user=f"u{number}"), session.id)
    await gathering.events.flush()
    assert gathering.log.asked["note"] == 4
    assert await gathering.users() == [f"u{number}" for number in range(350)]
    await gathering.events.flush()
    assert gathering.log.asked["note"] == 4


async def test_while_the_log_is_away_joins_wait_and_then_are_written_once(gathering: Gathering) -> None:
    session = await opened(gathering.truth)
    gathering.events.joined(entry(user="bob"), session.id)
    gathering.log.failure = Unavailable("away")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await gathering.events.flush()
    assert gathering.events.waiting == 1
    gathering.log.failure = None
    # It is stored, and whoever waited for the answer is gone.
    gathering.log.answering.clear()
    flushing = asyncio.ensure_future(gathering.events.flush())
    await until(lambda: gathering.truth.queries["note"] == 1)
    flushing.cancel()
    await asyncio.wait([flushing])
    assert gathering.events.waiting == 1
    gathering.log.answering.set()
    await gathering.events.flush()
    assert gathering.events.waiting == 0
    assert await gathering.users() == ["bob"]


async def test_above_the_bound_the_oldest_is_dropped_and_counted(
    gathering: Gathering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "WAITING_LIMIT", 5)
    session = await opened(gathering.truth)
    gathering.events.joined(entry(user="first"), session.id)
    # Also while it is being written: it is stored, and takes no other with it.
    gathering.log.answering.clear()
    flushing = asyncio.ensure_future(gathering.events.flush())
    await until(lambda: gathering.truth.queries["note"] == 1)
    for number in range(7):
        gathering.events.joined(entry(user=f"u{number}"), session.id)
    assert (gathering.events.waiting, gathering.events.dropped) == (5, 3)
    gathering.log.answering.set()
    await flushing
    assert await gathering.users() == ["first", "u2", "u3", "u4", "u5", "u6"]
