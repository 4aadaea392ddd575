"""Postgres away, stuck, restarted, cut off in the middle: every call ends in time, and everything heals."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import psutil
import pytest

from loadtest.servers.faults import CutAnswer, CutRequest
from loadtest.servers.postgres import PostgresServer
from loadtest.servers.proxy import FaultProxy
from loadtest.servers.wire import Unit
from store.errors import Unavailable
from store.log_postgres.connection import connect
from store.log_postgres.database import MARGIN_S
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from store.types import Mark, Session
from tests.store.making import NOW, appended, draft, new_session, opened
from tests.store.postgres_databases import Databases
from tests.waiting import until

# Short, so that what hangs is given up soon.
HASTY: Final = PostgresOptions(statement_timeout_s=0.4, connect_timeout_s=0.4)
LIMIT_S: Final = HASTY.statement_timeout_s + MARGIN_S
# What a busy machine may take longer than the limit.
SLACK_S: Final = 1.0

TERMINATE: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'session-gateway'"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One that may be killed: nobody else is on it."""
    with PostgresServer.start(tmp_path_factory.mktemp("faulty"), settings={"fsync": "off"}) as server:
        yield server


@pytest.fixture(scope="module")
def databases(server: PostgresServer) -> Databases:
    return Databases(server)


@pytest.fixture
async def url(databases: Databases) -> AsyncIterator[str]:
    async with databases.fresh() as url:
        yield url


@asynccontextmanager
async def started(url: str, options: PostgresOptions = HASTY) -> AsyncIterator[PostgresLog]:
    log = PostgresLog(url, options)
    await log.start()
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def through_proxy(server: PostgresServer, url: str) -> AsyncIterator[tuple[PostgresLog, FaultProxy]]:
    """A log behind a proxy, with a pool that is warm."""
    async with (
        await FaultProxy.start(("127.0.0.1", server.port), speech="postgres") as proxy,
        started(proxy.url_of(url)) as log,
    ):
        yield log, proxy
        proxy.heal()


async def warm(log: PostgresLog) -> None:
    """Have the log open all its connections."""
    await asyncio.gather(*(log.ping() for _ in range(HASTY.pool_size)))


def everything(log: PostgresLog, session: Session) -> list[Callable[[], Awaitable[object]]]:
    """One call of every kind."""
    id = session.id
    return [
        log.ping,
        lambda: log.append([draft(id)]),
        lambda: log.read(id, after=0, limit=5),
        lambda: log.read_before(id, before=5, limit=5),
        lambda: log.standings([id]),
        log.tallier([id]),
        lambda: log.create(new_session(), limit=100_000),
        lambda: log.get("t", id),
        lambda: log.access("t", id, "alice"),
        lambda: log.list_for("t", "alice", before=None, limit=5),
        lambda: log.take_over("t", id),
        lambda: log.extend({id: NOW}),
        lambda: log.expire_due(now=0, limit=5),
        lambda: log.members(id),
        lambda: log.put_member("t", id, "bob", "reader", now=NOW),
        lambda: log.mark([Mark(session=id, user="alice", read=1)]),
        lambda: log.cursors(id),
        lambda: log.events(after=0, limit=5),
        lambda: log.revoke("t", "zoe", before=NOW),
        lambda: log.revocations(after=0, limit=5),
    ]


async def all_fail_in_time(calls: list[Callable[[], Awaitable[object]]], limit_s: float = LIMIT_S) -> None:
    """All at once are told Unavailable, none later than the limit."""

    async def timed(call: Callable[[], Awaitable[object]]) -> float:
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            await call()
        return time.monotonic() - begun

    assert max(await asyncio.gather(*(timed(call) for call in calls))) < limit_s + SLACK_S


async def all_succeed(calls: list[Callable[[], Awaitable[object]]]) -> None:
    await asyncio.gather(*(call() for call in calls))


@contextmanager
def paused(server: PostgresServer) -> Iterator[None]:
    """Stop the server and all its processes in the middle of whatever they do."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(processes):
            process.resume()


def holding(part: bytes) -> Callable[[Unit], bool]:
    return lambda unit: unit.kind == "B" and part in unit.data


# -- away


async def test_after_a_restart_everything_goes_on(server: PostgresServer, url: str) -> None:
    async with started(url) as log:
        session = await opened(log, exclusive=True)
        await warm(log)
        server.stop()
        await all_fail_in_time(everything(log, session) * 5, limit_s=0.5)
        with pytest.raises(Unavailable, match=rf"Postgres at 127\.0\.0\.1:{server.port}/t\w+ cannot be used"):
            await log.ping()
        server.again()
        await all_succeed(everything(log, session) * 3)


async def test_after_a_crash_everything_goes_on(server: PostgresServer, url: str) -> None:
    async with started(url) as log:
        session = await opened(log, exclusive=True)
        await warm(log)
        server.kill()
        await all_fail_in_time(everything(log, session), limit_s=0.5)
        server.again()
        await all_succeed(everything(log, session) * 3)


async def test_when_all_backends_are_terminated_no_read_fails(server: PostgresServer, url: str) -> None:
    async with started(url) as log:
        session = await opened(log)
        for _ in range(5):
            await warm(log)
            # Without a turn of the loop: the log does not know yet.
            server.run(TERMINATE)
            found = await asyncio.gather(
                log.get("t", session.id),
                log.read(session.id, after=0, limit=5),
                log.standings([session.id]),
                log.tallier([session.id])(),
                log.extend({session.id: NOW}),
                log.ping(),
            )
            assert found[0] is not None
            assert [message.seq for message in found[1]] == list(range(1, found[0].head + 1))
            await appended(log, draft(session))


# -- stuck


@pytest.mark.parametrize("how", ["paused", "black hole"])
async def test_a_server_that_does_not_answer_holds_up_no_call(
    server: PostgresServer, url: str, how: str
) -> None:
    async with through_proxy(server, url) as (log, proxy):
        session = await opened(log, exclusive=True)
        await warm(log)
        if how == "paused":
            with paused(server):
                await all_fail_in_time(everything(log, session) * 10)
                # And now there is not even a connection.
                await all_fail_in_time(everything(log, session) * 10)
        else:
            proxy.black_hole()
            await all_fail_in_time(everything(log, session) * 10)
            await all_fail_in_time(everything(log, session) * 10)
            proxy.heal()
        await all_succeed(everything(log, session) * 3)
        assert proxy.connections <= HASTY.pool_size + 1


async def test_closing_does_not_wait_for_a_server_that_does_not_answer(
    server: PostgresServer, url: str
) -> None:
    async with through_proxy(server, url) as (log, proxy):
        session = await opened(log)
        await warm(log)
        proxy.black_hole()
        calls = [asyncio.create_task(log.append([draft(session)])) for _ in range(20)]
        await until(lambda: log.queries["append"] >= HASTY.pool_size - 1)
        begun = time.monotonic()
        await log.close()
        assert time.monotonic() - begun < LIMIT_S + 1 + SLACK_S
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}


async def test_who_waits_for_a_lock_is_told_and_its_connection_stays(
    server: PostgresServer, url: str
) -> None:
    async with through_proxy(server, url) as (log, proxy):
        session, other = await opened(log), await opened(log)
        await warm(log)
        before = proxy.accepted
        beside = await connect(url, PostgresOptions())
        async with beside.transaction():
            await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", session.id)
            with pytest.raises(Unavailable, match="it took too long"):
                await log.append([draft(session)])
            assert [outcome.seq for outcome in await appended(log, draft(other))] == [1]
        beside.terminate()
        assert [outcome.seq for outcome in await appended(log, draft(session))] == [1]
        assert proxy.accepted == before


async def test_a_node_that_vanished_in_a_transaction_lets_go_of_its_locks(url: str) -> None:
    async with started(url, PostgresOptions()) as log:
        session = await opened(log)
        zombie = await connect(url, HASTY)
        await zombie.execute("BEGIN")
        await zombie.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", session.id)
        assert [outcome.seq for outcome in await appended(log, draft(session))] == [1]
        zombie.terminate()


async def test_a_thousand_calls_while_it_is_away_are_all_answered(server: PostgresServer, url: str) -> None:
    async with through_proxy(server, url) as (log, proxy):
        session = await opened(log)
        await warm(log)
        proxy.black_hole()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: log.access("t", session.id, "alice"),
            lambda: log.append([draft(session)]),
        ]
        await all_fail_in_time(calls * 500)
        proxy.heal()
        assert await log.get("t", session.id) == session


# -- cut off in the middle


async def test_a_commit_whose_answer_is_lost_is_found_by_its_ids(server: PostgresServer, url: str) -> None:
    async with through_proxy(server, url) as (log, proxy):
        session = await opened(log)
        group = [draft(session) for _ in range(3)]
        fault = proxy.add(CutAnswer(holding(group[0].content.encode())))
        with pytest.raises(Unavailable):
            await log.append(group)
        assert fault.cuts == 1
        assert [(o.seq, o.duplicate) for o in await appended(log, *group)] == [
            (1, True),
            (2, True),
            (3, True),
        ]


async def test_a_commit_that_never_arrived_is_stored_when_it_is_repeated(
    server: PostgresServer, url: str
) -> None:
    async with through_proxy(server, url) as (log, proxy):
        session = await opened(log)
        group = [draft(session) for _ in range(3)]
        proxy.add(CutRequest(holding(group[0].content.encode())))
        with pytest.raises(Unavailable):
            await log.append(group)
        assert [(o.seq, o.duplicate) for o in await appended(log, *group)] == [
            (1, False),
            (2, False),
            (3, False),
        ]


async def test_a_repetition_while_the_first_is_still_under_way_waits_for_it(
    server: PostgresServer, url: str
) -> None:
    async with through_proxy(server, url) as (log, proxy):
        session = await opened(log)
        group = [draft(session) for _ in range(3)]
        beside = await connect(url, PostgresOptions())
        async with beside.transaction():
            await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", session.id)
            first = asyncio.create_task(log.append(group))
            await until(lambda: log.queries["append"] == 1)
            proxy.cut_all()
            with pytest.raises(Unavailable):
                await first
            again = asyncio.create_task(log.append(group))
            await until(lambda: log.queries["append"] == 2)
        outcomes = await again
        beside.terminate()
        assert [getattr(outcome, "seq", None) for outcome in outcomes] == [1, 2, 3]
        assert [message.seq for message in await log.read(session.id, after=0, limit=9)] == [1, 2, 3]


async def test_a_session_whose_creation_is_in_doubt_can_be_created_again(
    server: PostgresServer, url: str
) -> None:
    async with through_proxy(server, url) as (log, proxy):
        await warm(log)
        new = new_session(title="in doubt")
        # The last word of its transaction.
        fault = proxy.add(CutAnswer(lambda unit: unit.kind == "Q" and b"COMMIT" in unit.data))
        with pytest.raises(Unavailable):
            await log.create(new, limit=1)
        assert fault.cuts == 1
        assert (await log.create(new, limit=1)).title == "in doubt"


async def test_a_read_that_is_cut_off_is_made_once_more(server: PostgresServer, url: str) -> None:
    async with through_proxy(server, url) as (log, proxy):
        session = await opened(log)
        await warm(log)
        fault = proxy.add(CutAnswer(lambda unit: unit.kind == "B"))
        assert await log.get("t", session.id) == session
        assert fault.cuts == 1
        always = proxy.add(CutAnswer(lambda unit: unit.kind == "B", times=100))
        with pytest.raises(Unavailable):
            await log.get("t", session.id)
        assert always.cuts == 2


async def test_cuts_at_any_moment_lose_nothing_and_store_nothing_twice(
    server: PostgresServer, url: str
) -> None:
    async with through_proxy(server, url) as (log, proxy):
        made = [await opened(log) for _ in range(4)]
        acked: dict[str, int] = {}

        async def write(session: Session) -> None:
            for _ in range(25):
                group = [draft(session) for _ in range(3)]
                while True:
                    try:
                        outcomes = await appended(log, *group)
                    except Unavailable:
                        continue
                    break
                acked.update({d.id: o.seq for d, o in zip(group, outcomes, strict=True)})

        writers = asyncio.gather(*(write(session) for session in made))
        cuts = 0
        while not writers.done():
            next_cut = log.queries["append"] + 1 + cuts % 7
            await until(partial(_is_reached, log, next_cut, writers))
            cuts += proxy.cut_all() > 0
        await writers
        assert cuts >= 5
        for session in made:
            stored = await log.read(session.id, after=0, limit=500)
            assert [message.seq for message in stored] == list(range(1, 76))
            assert all(acked[message.id] == message.seq for message in stored)


def _is_reached(log: PostgresLog, appends: int, writers: "asyncio.Future[list[None]]") -> bool:
    return log.queries["append"] >= appends or writers.done()
