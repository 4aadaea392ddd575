"""What is Postgres's own: reads that go together, events of many nodes, cancelled calls, durability."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import pytest

from store.errors import LimitReached, Unavailable
from store.log_postgres import database, events, sessions
from store.log_postgres.connection import Connection, connect
from store.log_postgres.log import PostgresLog
from store.types import Access, Act, Event, Mark, Session
from tests.store.making import NOW, appended, draft, new_session, opened
from tests.store.postgres_databases import OPTIONS, Databases, blocked, nodes
from tests.waiting import turns, until


@pytest.fixture
async def url(databases: Databases) -> AsyncIterator[str]:
    async with databases.fresh() as url:
        yield url


@pytest.fixture
async def log(url: str) -> AsyncIterator[PostgresLog]:
    async with nodes(url, 1) as (log,):
        yield log


@pytest.fixture
async def beside(url: str) -> AsyncIterator[Connection]:
    connection = await connect(url, OPTIONS)
    yield connection
    connection.terminate()


WAITING: Final = "SELECT pid FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"


# -- reads that go together


async def test_a_storm_of_attaches_is_tens_of_statements(log: PostgresLog) -> None:
    made = [await opened(log) for _ in range(50)]
    await appended(log, *(draft(session) for session in made for _ in range(3)))
    before = log.queries.total()

    async def attach(number: int) -> None:
        session = made[number % 50]
        access = await log.access("t", session.id, "alice")
        assert access is not None
        assert (access.session.id, access.session.head, access.role) == (session.id, 3, "owner")
        assert [message.seq for message in await log.read(session.id, after=1, limit=50)] == [2, 3]
        assert [member.user for member in await log.members(session.id)] == ["alice"]
        assert await log.cursors(session.id) == []

    await asyncio.gather(*(attach(number) for number in range(1_000)))
    assert log.queries.total() - before <= 80
    # One by one, each is a statement.
    await attach(1)
    await attach(2)
    assert set(log.queries) >= {"access", "read", "members", "cursors"}


async def test_everybody_gets_the_answer_to_the_own_question(log: PostgresLog) -> None:
    made = [await opened(log, title=f"{number}", owner=f"user{number}") for number in range(40)]
    await appended(
        log, *(draft(s, sender=s.owner, content=s.title) for s in made for _ in range(int(s.title)))
    )

    async def ask(session: Session) -> None:
        number, user = int(session.title), session.owner
        found = await log.get("t", session.id)
        assert found is not None
        assert found.title == session.title
        assert await log.get("other", session.id) is None
        assert await log.access("t", session.id, "mallory") is None
        assert await log.access("t", session.id, user) == Access(session=found, role="owner")
        page = await log.read(session.id, after=number // 2, limit=7)
        assert [message.seq for message in page] == list(range(number // 2 + 1, number + 1))[:7]
        page = await log.read_before(session.id, before=number, limit=7)
        assert [message.seq for message in page] == list(range(1, number))[-7:]
        assert {message.content for message in page} <= {session.title}
        listed = await log.list_for("t", user, before=None, limit=5)
        assert [(row.session.id, row.unread) for row in listed] == [(session.id, number)]

    await asyncio.gather(*(ask(session) for session in made for _ in range(3)))


async def test_mass_cancellation_gives_nobody_the_answer_of_another(
    log: PostgresLog, beside: Connection
) -> None:
    made = [await opened(log, title=f"{number}") for number in range(30)]

    async def ask(session: Session, turn: int) -> bool:
        match turn % 4:
            case 0:
                found = await log.get("t", session.id)
                return found is not None and found.title == session.title
            case 1:
                (outcome,) = await log.append([draft(session, content=session.title)])
                return bool(outcome)
            case 2:
                page = await log.read(session.id, after=0, limit=50)
                return {message.content for message in page} <= {session.title}
            case _:
                await log.extend({session.id: NOW})
                return await log.create(new_session(title=session.title), limit=10**6) is not None

    for round_ in range(6):
        tasks = [asyncio.create_task(ask(session, turn)) for turn, session in enumerate(made * 6)]
        await turns(round_ * 3)
        for task in tasks[round_ % 2 :: 2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        wrong = [o for o in outcomes if o is not True and not isinstance(o, asyncio.CancelledError)]
        assert wrong == []
    for session in made:
        stored = await log.read(session.id, after=0, limit=500)
        assert [message.seq for message in stored] == list(range(1, len(stored) + 1))
        assert {message.content for message in stored} <= {session.title}
    # The pool is whole: no connection is lost, none is in the middle of anything.
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert await beside.fetchval(count) <= OPTIONS.pool_size
    assert await beside.fetchval(f"{count} AND state <> 'idle'") == 0
    await asyncio.gather(*(log.ping() for _ in range(OPTIONS.pool_size * 3)))


async def test_a_call_whose_caller_went_before_it_began_is_not_made(
    log: PostgresLog, beside: Connection
) -> None:
    session = await opened(log, ttl_s=60)
    async with beside.transaction():
        await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", session.id)
        # All places but the one for messages are taken.
        waiting = [asyncio.create_task(log.extend({session.id: NOW})) for _ in range(OPTIONS.pool_size - 1)]
        await until(lambda: log.queries["extend"] == len(waiting))
        late = new_session()
        creating = asyncio.create_task(log.create(late, limit=5))
        await turns(5)
        creating.cancel()
        await turns(5)
    await asyncio.gather(*waiting)
    assert await log.get("t", late.id) is None
    assert log.queries["create"] == 1


async def test_a_call_that_has_begun_is_finished_on_its_connection_though_its_caller_went(
    log: PostgresLog, beside: Connection
) -> None:
    session = await opened(log)
    sent = draft(session)
    async with beside.transaction():
        await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", session.id)
        task = await blocked(beside, log.append([sent]))
        pid = await beside.fetchval(WAITING)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await beside.fetchval(WAITING) == pid
    assert [(o.seq, o.duplicate) for o in await appended(log, sent)] == [(1, True)]
    assert await beside.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid) == 1


async def test_messages_do_not_stand_behind_other_calls(log: PostgresLog, beside: Connection) -> None:
    stuck, free = await opened(log, ttl_s=1), await opened(log)
    async with beside.transaction():
        await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", stuck.id)
        waiting = [
            asyncio.create_task(log.extend({stuck.id: NOW + 5_000})) for _ in range(OPTIONS.pool_size * 5)
        ]
        await until(lambda: log.queries["extend"] == OPTIONS.pool_size - 1)
        assert [outcome.seq for outcome in await appended(log, draft(free))] == [1]
    await asyncio.gather(*waiting)


async def test_more_calls_than_may_wait_are_told_to_come_back(
    log: PostgresLog, beside: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAITING_CALLS", 10)
    monkeypatch.setattr(database, "WAITING_BYTES", 1_000)
    session = await opened(log, ttl_s=1)
    async with beside.transaction():
        await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", session.id)
        large = draft(session, content="x" * 900)
        append = await blocked(beside, log.append([large]))
        with pytest.raises(Unavailable, match="1 calls with 902 bytes wait"):
            await log.append([large])
        extending = [asyncio.create_task(log.extend({session.id: NOW})) for _ in range(9)]
        await turns(2)
        with pytest.raises(Unavailable, match="10 calls"):
            await log.extend({session.id: NOW})
    await append
    await asyncio.gather(*extending)
    assert [outcome.duplicate for outcome in await appended(log, large)] == [True]


async def test_closing_answers_what_was_asked_and_nothing_more(url: str) -> None:
    async with nodes(url, 1) as (log,):
        session = await opened(log)
        writes = [asyncio.create_task(log.append([draft(session)])) for _ in range(30)]
        reads = [asyncio.create_task(log.read(session.id, after=0, limit=5)) for _ in range(30)]
        await turns(1)
        await log.close()
        assert len([await task for task in writes + reads]) == 60
        for call in (log.ping(), log.get("t", session.id), log.append([draft(session)])):
            with pytest.raises(Unavailable, match="closed"):
                await call
        await log.close()
        await log.start()
        assert (await log.standings([session.id]))[session.id].head == 30


# -- limits, sessions of many nodes


async def test_the_limit_holds_against_many_nodes(url: str) -> None:
    async with nodes(url, 4) as logs:
        outcomes = await asyncio.gather(
            *(logs[n % 4].create(new_session(), limit=5) for n in range(40)), return_exceptions=True
        )
        assert sum(isinstance(outcome, Session) for outcome in outcomes) == 5
        assert sum(isinstance(outcome, LimitReached) for outcome in outcomes) == 35


async def test_a_session_made_by_many_nodes_at_once_is_one(url: str) -> None:
    async with nodes(url, 4) as logs:
        new = new_session(ttl_s=60)
        made = await asyncio.gather(*(logs[n % 4].create(new, limit=5) for n in range(12)))
        assert all(session == made[0] for session in made)
        assert len(await logs[0].events(after=0, limit=10)) == 1


async def test_a_sweep_passes_over_what_somebody_else_is_ending(log: PostgresLog, beside: Connection) -> None:
    one, two = await opened(log, ttl_s=1), await opened(log, ttl_s=2)
    async with beside.transaction():
        await sessions.end(beside, "t", one.id, "closed", Act(at=NOW))
        swept = await log.expire_due(now=NOW + 9_000, limit=10)
        assert [session.id for session in swept] == [two.id]
    assert await log.expire_due(now=NOW + 9_000, limit=10) == []


async def test_a_node_whose_clock_is_fast_ends_nothing_before_its_time(log: PostgresLog) -> None:
    now = time.time_ns() // 1_000_000
    alive = await opened(log, created_at=now, ttl_s=3600)
    over = await opened(log, created_at=now - 7_200_000, ttl_s=3600)
    swept = await log.expire_due(now=now + 7_200_000, limit=10)
    assert [session.id for session in swept] == [over.id]
    assert (await log.get("t", alive.id)) == alive


# -- events, revocations


async def test_a_reader_misses_no_event_of_a_transaction_that_was_slow(
    log: PostgresLog, beside: Connection
) -> None:
    slow, quick = await opened(log), await opened(log)
    (*_, last) = await log.events(after=0, limit=10)
    async with beside.transaction():
        await sessions.end(beside, "t", slow.id, "closed", Act(at=NOW))
        await log.end("t", quick.id, "closed", now=NOW)
        seen = await log.events(after=last.id, limit=10)
        assert [event.session for event in seen] == [quick.id]
        assert await log.events(after=seen[-1].id, limit=10) == []
    missed = await log.events(after=seen[-1].id, limit=10)
    assert [event.session for event in missed] == [slow.id]
    assert missed[0].id > seen[0].id


async def test_readers_on_many_nodes_see_the_same_events_in_the_same_order(url: str) -> None:
    async with nodes(url, 4) as logs:

        async def write(node: PostgresLog) -> None:
            for _ in range(10):
                session = await opened(node)
                await node.end("t", session.id, "closed", now=NOW)

        async def read(node: PostgresLog) -> list[Event]:
            seen: list[Event] = []
            while len(seen) < 80:
                seen += await node.events(after=seen[-1].id if seen else 0, limit=7)
            return seen

        one, two, *_ = await asyncio.gather(*(read(node) for node in logs[:2]), *(write(n) for n in logs))
        assert one == two == await logs[3].events(after=0, limit=100)
        assert len({event.id for event in one}) == 80


async def test_writers_of_events_wait_for_no_reader(log: PostgresLog, beside: Connection) -> None:
    await opened(log)
    async with beside.transaction():
        assert await events.number(beside)
        await asyncio.wait_for(opened(log), timeout=2)
    assert len(await log.events(after=0, limit=10)) == 2


async def test_a_backlog_of_events_is_numbered_in_portions(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "NUMBERED_AT_ONCE", 3)
    made = [await opened(log) for _ in range(10)]
    assert [event.session for event in await log.events(after=0, limit=4)] == [s.id for s in made[:4]]
    assert [event.session for event in await log.events(after=0, limit=100)] == [s.id for s in made]


async def test_the_id_of_an_event_is_not_used_again_after_a_purge(
    log: PostgresLog, beside: Connection
) -> None:
    await opened(log)
    (first,) = await log.events(after=0, limit=5)
    await beside.execute("DELETE FROM events")
    await opened(log)
    (second,) = await log.events(after=first.id, limit=5)
    assert second.id > first.id


async def test_revocations_are_seen_in_the_order_of_their_ids(log: PostgresLog, beside: Connection) -> None:
    async with beside.transaction():
        slow = await events.revoke(beside, "t", "alice", NOW)
        task = await blocked(beside, log.revoke("t", "bob", before=NOW))
        # The later one waits, so that no reader can see it before the earlier one.
        assert await log.revocations(after=0, limit=5) == []
    quick = await task
    assert [r.user for r in await log.revocations(after=0, limit=5)] == ["alice", "bob"]
    assert slow.id < quick.id


# -- durability


async def test_a_commit_waits_for_the_disk_whatever_role_and_url_say(databases: Databases, url: str) -> None:
    for weak in (f"{url}?synchronous_commit=off", f"{url}?application_name=mine&synchronous_commit=local"):
        connection = await connect(weak, OPTIONS)
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        connection.terminate()
    strict = await connect(f"{url}?synchronous_commit=remote_apply", OPTIONS)
    assert await strict.fetchval("SHOW synchronous_commit") == "remote_apply"
    strict.terminate()


async def test_an_operator_sees_whose_connections_these_are(url: str) -> None:
    for given, shown in ((url, "session-gateway"), (f"{url}?application_name=node-7", "node-7")):
        connection = await connect(given, OPTIONS)
        name = await connection.fetchval(
            "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        )
        assert name == shown
        connection.terminate()


async def test_an_operator_reads_times_and_documents(log: PostgresLog, beside: Connection) -> None:
    session = await opened(log, context=b'{"lang":"pl"}', created_at=1_750_000_000_123, ttl_s=60)
    await appended(log, draft(session, created_at=1_750_000_000_999))
    await log.mark([Mark(session=session.id, user="alice", delivered=1)])
    row = await beside.fetchrow(
        "SELECT created_at::text, expires_at::text, context->>'lang', last_at::text "
        "FROM sessions WHERE id = $1",
        session.id,
    )
    assert row is not None
    assert tuple(row) == (
        "2025-06-15 15:06:40.123+00",
        "2025-06-15 15:07:40.123+00",
        "pl",
        "2025-06-15 15:06:40.999+00",
    )


async def test_a_second_terminal_event_cannot_be_stored(log: PostgresLog, beside: Connection) -> None:
    session = await opened(log)
    await log.end("t", session.id, "closed", now=NOW)
    with pytest.raises(asyncpg.UniqueViolationError, match="events_end_once"):
        await beside.execute(
            "INSERT INTO events (tenant_id, session_id, kind, version, at) "
            "VALUES ('t', $1, 'expired', 3, $2)",
            session.id,
            NOW,
        )
