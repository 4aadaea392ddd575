"""Records of several nodes on one Postgres and one Redis: hits ask no database, nobody reads what is old."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from loadtest.servers.redis import RedisServer
from store.cache_redis import RedisCache
from store.errors import StoreError
from store.log_postgres.log import PostgresLog
from store.pages import PAGE
from store.records import Records
from store.types import Change, Mark
from tests.store.making import NOW, appended, draft, new_session, opened
from tests.store.nodes import listed
from tests.store.postgres_databases import Databases
from tests.waiting import until


class Nodes:
    """Nodes on one log, each with a cache client of its own."""

    def __init__(self, log: PostgresLog, url: str, stack: AsyncExitStack) -> None:
        self.log = log
        self._url = url
        self._prefix = f"t{uuid4().hex[:8]}"
        self._stack = stack

    async def node(self) -> Records:
        cache = RedisCache(self._url, self._prefix)
        await cache.start()
        self._stack.push_async_callback(cache.close)
        records = Records(self.log, cache)
        self._stack.push_async_callback(records.close)
        return records

    async def asked_by(self, call: Awaitable[Any]) -> int:
        """How many queries a call costs."""
        before = self.log.queries.total()
        await call
        return self.log.queries.total() - before


@pytest.fixture(params=["redis62", "redis7", "redis_cluster"])
async def nodes(request: pytest.FixtureRequest, installed_databases: Databases) -> AsyncIterator[Nodes]:
    url = request.getfixturevalue(request.param).url
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(installed_databases.log())
        yield Nodes(log, url, stack)


async def test_a_hit_asks_postgres_nothing_on_any_node(nodes: Nodes) -> None:
    one, two = await nodes.node(), await nodes.node()
    session = await opened(nodes.log)
    await appended(nodes.log, *(draft(session) for _ in range(2 * PAGE + 10)))

    def reads(records: Records) -> list[Callable[[], Awaitable[Any]]]:
        return [
            lambda: records.get("t", session.id),
            lambda: records.access("t", session.id, "alice"),
            lambda: records.list_for("t", "alice", before=None, limit=20),
            lambda: records.read(session.id, after=0, limit=PAGE),
            lambda: records.read(session.id, after=17, limit=PAGE),
            lambda: records.read_before(session.id, before=PAGE + 3, limit=30),
        ]

    first = [await read() for read in reads(one)]
    asked = nodes.log.queries.total()
    assert [await read() for read in reads(one)] == first
    assert [await read() for read in reads(two)] == first
    assert nodes.log.queries.total() == asked
    assert two.counts["session_hit"] == 2
    assert two.counts["list_hit"] == 1
    assert two.counts["page_hit"] >= 4


async def test_every_change_is_seen_at_once_on_every_node(nodes: Nodes) -> None:
    one, two = await nodes.node(), await nodes.node()
    session = await one.create(new_session(exclusive=True, ttl_s=60), limit=5)
    writes: list[Callable[[], Awaitable[Any]]] = [
        lambda: one.update("t", session.id, Change(title="new"), now=NOW, expected_version=None),
        lambda: one.put_member("t", session.id, "bob", "reader", now=NOW),
        lambda: one.put_member("t", session.id, "bob", "writer", now=NOW),
        lambda: one.take_over("t", session.id),
        lambda: one.mark([Mark(session=session.id, user="alice", read=1)]),
        lambda: one.remove_member("t", session.id, "bob", now=NOW),
        lambda: one.expire_due(now=NOW + 100_000, limit=5),
    ]
    await appended(nodes.log, draft(session))
    for write in writes:
        for user in ("alice", "bob"):
            await two.access("t", session.id, user)
            await listed(two, user)
        await write()
        for node in (one, two):
            assert await node.get("t", session.id) == await nodes.log.get("t", session.id)
            for user in ("alice", "bob"):
                truth = await nodes.log.access("t", session.id, user)
                assert await node.access("t", session.id, user) == truth
                rows = await nodes.log.list_for("t", user, before=None, limit=100)
                assert await node.list_for("t", user, before=None, limit=100) == rows


async def test_callers_of_one_node_share_one_query(nodes: Nodes) -> None:
    records = await nodes.node()
    await opened(nodes.log)
    assert await nodes.asked_by(asyncio.gather(*(listed(records) for _ in range(30)))) == 1


async def test_nodes_that_write_and_read_at_random_leave_nothing_old_behind(nodes: Nodes) -> None:
    chance = random.Random(5)  # noqa: S311
    members = [await nodes.node() for _ in range(3)]
    sessions = [(await members[0].create(new_session(), limit=50)).id for _ in range(4)]
    users = ("alice", "bob", "carol")

    async def act(step: int) -> None:
        node, session, user = chance.choice(members), chance.choice(sessions), chance.choice(users)
        match chance.randrange(8):
            case 0:
                await node.update("t", session, Change(title=f"{step}"), now=NOW, expected_version=None)
            case 1:
                await node.put_member("t", session, user, "writer", now=NOW)
            case 2:
                await node.remove_member("t", session, user, now=NOW)
            case 3:
                await node.append([draft(session, content=f"{step}") for _ in range(3)])
            case 4:
                await node.mark([Mark(session=session, user=user, read=step)])
            case 5:
                await node.get("t", session)
            case _:
                await listed(node, user)

    for step in range(60):
        await asyncio.gather(*(act(step) for _ in range(6)), return_exceptions=True)

    async def is_true() -> bool:
        for node in members:
            for session in sessions:
                found, truth = await node.get("t", session), await nodes.log.get("t", session)
                if (found and (found.title, found.version)) != (truth and (truth.title, truth.version)):
                    return False
            for user in users:
                rows = await nodes.log.list_for("t", user, before=None, limit=100)
                if await node.list_for("t", user, before=None, limit=100) != rows:
                    return False
        return True

    # The last messages are told a moment after their acks.
    await until(is_true)
    for _ in range(3):
        assert await is_true()


async def test_what_changed_while_redis_was_paused_is_true_when_it_is_back(
    installed_databases: Databases, redis7: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(installed_databases.log())
        nodes = Nodes(log, redis7.url, stack)
        one, two = await nodes.node(), await nodes.node()
        session = await one.create(new_session(title="old"), limit=5)
        for node in (one, two):
            await node.get("t", session.id)
            await listed(node)
        redis7.pause()
        try:
            loop = asyncio.get_running_loop()
            slowest = 0.0
            for number in range(30):
                begun = loop.time()
                await one.append([draft(session, content=f"{number}")])
                slowest = max(slowest, loop.time() - begun)
            await one.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
        finally:
            redis7.resume()
        # No ack waited for Redis, whose limit of time is a second.
        assert slowest < 0.5
        assert (await one.get("t", session.id)) == await log.get("t", session.id)
        await until(lambda: one.owed == 0 and not one._shelf.is_away, within=10)
        found = await two.get("t", session.id)
        assert found is not None
        assert found.title == "new"
        (row,) = await two.list_for("t", "alice", before=None, limit=9)
        assert row.preview == "29"


async def test_a_redis_that_was_flushed_in_the_middle_is_filled_again(
    installed_databases: Databases, redis7: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(installed_databases.log())
        nodes = Nodes(log, redis7.url, stack)
        one, two = await nodes.node(), await nodes.node()
        session = await one.create(new_session(), limit=5)
        is_over = False

        async def flush() -> None:
            for _ in range(20):
                await asyncio.to_thread(redis7.run, "FLUSHALL")
                await asyncio.to_thread(redis7.run, "SCRIPT", "FLUSH")

        async def work(node: Records) -> None:
            while not is_over:
                try:
                    await node.append([draft(session)])
                    await listed(node)
                    await node.update("t", session.id, Change(title="x"), now=NOW, expected_version=None)
                except StoreError as error:
                    raise AssertionError("Redis is disposable") from error

        working = [asyncio.ensure_future(work(node)) for node in (one, two)]
        await flush()
        is_over = True
        await asyncio.gather(*working)
        truth = await log.list_for("t", "alice", before=None, limit=9)

        async def is_true() -> bool:
            lists = [await node.list_for("t", "alice", before=None, limit=9) for node in (one, two)]
            return lists == [truth, truth]

        await until(is_true)
