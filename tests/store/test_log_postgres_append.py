"""Appends in Postgres: from many nodes at once, under the locks of others, with what no database can hold."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest

from store.log_postgres import append, events, found, members, messages, outbox, sessions
from store.log_postgres.connection import Connection, connect
from store.log_postgres.log import PostgresLog
from store.types import Act, Appended, Change, Mark, Refused, Session
from tests.store.making import NOW, appended, draft, new_id, opened
from tests.store.postgres_databases import OPTIONS, Databases, blocked, nodes
from tests.waiting import until

INVALID: Final = Refused(code="invalid")


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
    """The database, as somebody else has it open."""
    connection = await connect(url, OPTIONS)
    yield connection
    connection.terminate()


# -- many nodes


async def test_many_nodes_write_to_the_same_sessions_without_gap_or_error(
    url: str, beside: Connection
) -> None:
    async with nodes(url, 4) as logs:
        made = [await opened(logs[0], ttl_s=60) for _ in range(5)]

        async def write(node: PostgresLog, number: int) -> None:
            for turn in range(12):
                # Overlapping sets, each in an order of its own.
                order = made[number:] + made[:number] if turn % 2 else list(reversed(made))
                await appended(node, *(draft(session) for session in order for _ in range(3)))

        async def extend(node: PostgresLog) -> None:
            for turn in range(20):
                await node.extend({session.id: NOW + 60_000 + turn for session in reversed(made)})
                await node.mark([Mark(session=s.id, user="alice", read=turn) for s in reversed(made)])
                await node.expire_due(now=NOW, limit=10)

        await asyncio.gather(
            *(write(node, number) for number, node in enumerate(logs)), *(extend(node) for node in logs)
        )
        for session in made:
            stored = await logs[1].read(session.id, after=0, limit=500)
            assert [message.seq for message in stored] == list(range(1, 4 * 12 * 3 + 1))
    deadlocks = await beside.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0


async def test_the_same_drafts_from_many_nodes_at_once_are_stored_once(url: str) -> None:
    async with nodes(url, 4) as logs:
        session, other = await opened(logs[0]), await opened(logs[0])
        for _ in range(10):
            group = [draft(session), draft(other), draft(session)]
            everywhere = await asyncio.gather(*(appended(node, *group) for node in logs))
            assert len({tuple(o.seq for o in outcomes) for outcomes in everywhere}) == 1
            fresh = [outcomes for outcomes in everywhere if not any(o.duplicate for o in outcomes)]
            assert len(fresh) == 1
        standings = await logs[0].standings([session.id, other.id])
        assert (standings[session.id].head, standings[other.id].head) == (20, 10)


async def test_sessions_are_locked_in_the_order_of_their_ids(log: PostgresLog, beside: Connection) -> None:
    first, second, third = sorted([await opened(log) for _ in range(3)], key=lambda session: session.id)
    async with beside.transaction():
        await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", second.id)
        task = await blocked(beside, log.append([draft(third), draft(second), draft(first)]))
        # The first is locked by now, the third is not.
        with pytest.raises(asyncpg.LockNotAvailableError):
            async with beside.transaction():
                await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE NOWAIT", first.id)
        await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE NOWAIT", third.id)
    assert all(isinstance(outcome, Appended) for outcome in await task)


async def test_sessions_of_a_group_that_holds_poison_are_locked_in_the_same_order(
    log: PostgresLog, beside: Connection
) -> None:
    low, high = sorted([await opened(log) for _ in range(2)], key=lambda session: session.id)
    group = [draft(high), draft(high), draft(low), draft(low, content="\0")]
    async with beside.transaction():
        await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", low.id)
        task = await blocked(beside, log.append(group))
        await beside.execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE NOWAIT", high.id)
    assert [o.seq if isinstance(o, Appended) else o.code for o in await task] == [1, 2, 1, "invalid"]


# -- what was committed while a group waited for its sessions


async def test_a_session_that_is_changed_without_a_pause_holds_up_no_message(
    log: PostgresLog, url: str
) -> None:
    busy, other = await opened(log), await opened(log)
    changes = 0

    async def change_on() -> None:
        nonlocal changes
        connection = await connect(url, OPTIONS)
        try:
            while True:
                async with connection.transaction():
                    await sessions.update(connection, "t", busy.id, Change(title="x"), Act(at=NOW), None)
                    # As a disk that takes its time over the commit.
                    await connection.execute("SELECT pg_sleep(0.003)")
                changes += 1
        finally:
            connection.terminate()

    changing = [asyncio.create_task(change_on()) for _ in range(4)]
    await until(lambda: changes > 8)
    for _ in range(20):
        await appended(log, draft(busy), draft(other))
    for task in changing:
        task.cancel()
    await asyncio.wait(changing)
    assert all(task.cancelled() for task in changing)


async def test_an_equal_message_that_was_stored_meanwhile_is_the_first(
    log: PostgresLog, beside: Connection
) -> None:
    session = await opened(log)
    sent, other = draft(session), draft(session)
    async with beside.transaction():
        await append.append(beside, [sent])
        task = await blocked(beside, log.append([other, sent]))
    assert await task == [
        Appended(seq=2, id=other.id, created_at=other.created_at),
        Appended(seq=1, id=sent.id, created_at=sent.created_at, duplicate=True),
    ]


async def test_an_id_that_was_used_meanwhile_is_a_conflict(log: PostgresLog, beside: Connection) -> None:
    session, other = await opened(log), await opened(log)
    sent = draft(session)
    async with beside.transaction():
        await append.append(beside, [sent])
        task = await blocked(beside, log.append([draft(other), draft(other, id=sent.id)]))
    assert [outcome.code for outcome in await task if isinstance(outcome, Refused)] == ["id_conflict"]


async def test_who_was_removed_meanwhile_writes_nothing(log: PostgresLog, beside: Connection) -> None:
    session = await opened(log)
    await log.put_member("t", session.id, "bob", "writer", now=NOW)
    await log.put_member("t", session.id, "carol", "writer", now=NOW)
    async with beside.transaction():
        await members.remove_member(beside, "t", session.id, "bob", Act(at=NOW))
        await members.put_member(beside, "t", session.id, "carol", "reader", Act(at=NOW))
        await members.put_member(beside, "t", session.id, "dave", "writer", Act(at=NOW))
        group = [draft(session, sender=user) for user in ("alice", "bob", "carol", "dave")]
        task = await blocked(beside, log.append(group))
    first, second, third, fourth = await task
    assert (second, third) == (Refused(code="not_found"), Refused(code="forbidden"))
    assert [outcome.seq for outcome in (first, fourth) if isinstance(outcome, Appended)] == [1, 2]


async def test_a_session_that_ended_or_was_taken_over_meanwhile_takes_nothing(
    log: PostgresLog, beside: Connection
) -> None:
    ending, taken = await opened(log), await opened(log, exclusive=True)
    async with beside.transaction():
        await sessions.end(beside, "t", ending.id, "closed", Act(at=NOW))
        await sessions.take_over(beside, "t", taken.id)
        task = await blocked(
            beside, log.append([draft(ending), draft(taken, epoch=1), draft(taken, epoch=2)])
        )
    closed, superseded, stored = await task
    assert (closed, superseded) == (Refused(code="closed"), Refused(code="superseded"))
    assert isinstance(stored, Appended)


async def test_who_joins_while_a_session_ends_does_not_have_it_in_the_list(
    log: PostgresLog, beside: Connection
) -> None:
    session = await opened(log)
    async with beside.transaction():
        await members.put_member(beside, "t", session.id, "bob", "writer", Act(at=NOW))
        task = await blocked(beside, log.end("t", session.id, "closed", now=NOW))
    ended = await task
    assert ended is not None
    assert ended.version == 3
    assert await log.list_for("t", "bob", before=None, limit=5) == []


# -- what no database can hold

POISON: Final[dict[str, dict[str, Any]]] = {
    "NUL": {"content": "a\0b"},
    "a lone surrogate": {"content": "\ud800"},
    "NUL in a document": {"metadata": b'{"a":"\\u0000"}'},
    "half a pair in a document": {"metadata": b'{"a":"\\ud800"}'},
    "no JSON": {"metadata": b"{"},
    "no UTF-8": {"metadata": b'{"a":"\xff"}'},
    "a number beyond numeric": {"metadata": b'{"a":1e400000}'},
    "too deep": {"metadata": b"[" * 100_000 + b"]" * 100_000},
    # Longer than a page of an index, and not to be compressed.
    "a long client id": {"client_id": "".join(chr(33 + n * n * 7919 % 90_000) for n in range(3, 9_000))},
    "a NUL in a client id": {"client_id": "\0"},
    "an id that is none": {"id": "m1"},
    "an epoch beyond 64 bits": {"epoch": 2**63},
    "an unknown role": {"role": "robot"},
}


@pytest.mark.parametrize("bad", POISON.values(), ids=POISON)
async def test_poison_harms_only_itself(log: PostgresLog, bad: dict[str, Any]) -> None:
    one, two = await opened(log), await opened(log)
    group = [draft(one if place % 2 else two) for place in range(100)]
    group[37] = draft(one, **bad)
    outcomes = await log.append(group)
    assert outcomes.pop(37) == INVALID
    assert [o.seq for o in outcomes if isinstance(o, Appended)] == [
        *(1 + place // 2 for place in range(37)),
        *(1 + (place - (place % 2 and 1)) // 2 if place % 2 == 0 else place // 2 for place in range(38, 100)),
    ]
    assert await log.append([draft(one, **bad)]) == [INVALID]
    assert (await log.standings([one.id]))[one.id].head == 49


async def test_a_group_of_poison_alone_stores_nothing(log: PostgresLog) -> None:
    session = await opened(log)
    group = [draft(session, **bad) for bad in POISON.values()]
    assert await log.append(group) == [INVALID] * len(group)
    assert (await log.standings([session.id]))[session.id].head == 0


async def test_poison_among_repeated_ids_harms_only_itself(log: PostgresLog) -> None:
    session = await opened(log)
    sent = draft(session)
    outcomes = await log.append([sent, draft(session, content="\0"), sent, draft(session)])
    assert [o.seq if isinstance(o, Appended) else o.code for o in outcomes] == [1, "invalid", 1, 2]


# -- what it costs


async def test_a_group_is_one_statement(log: PostgresLog, beside: Connection) -> None:
    made = [await opened(log) for _ in range(10)]
    before = log.queries["append"]
    await appended(log, *(draft(session) for session in made for _ in range(50)))
    assert log.queries["append"] == before + 1


async def test_moving_the_head_touches_no_index(log: PostgresLog, beside: Connection) -> None:
    made = [await opened(log, context=b'{"long": "%s"}' % (b"x" * 1_000)) for _ in range(20)]
    for _ in range(30):
        await appended(log, *(draft(session) for session in made))

    async def moves() -> asyncpg.Record | None:
        return await beside.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'"
        )

    async def is_counted() -> bool:
        row = await moves()
        return row is not None and row[0] >= 600

    # A backend reports once a second at most, and when it ends.
    await log.close()
    await until(is_counted)
    row = await moves()
    assert row is not None
    moved, hot = row
    assert hot >= moved * 0.95


def statements() -> dict[str, str]:
    """Every statement that stands in a constant of the backend, by its name."""
    rooms = (append, events, found, members, messages, outbox, sessions)
    constants = {f"{room.__name__}.{name}": value for room in rooms for name, value in vars(room).items()}
    begins = ("SELECT", "WITH", "UPDATE", "INSERT")
    return {
        name: value
        for name, value in constants.items()
        # The beginning of two others is no statement.
        if isinstance(value, str) and value.lstrip().startswith(begins) and not name.endswith("._FOUND")
    }


# By which columns each index is entered. With fewer it would be gone through for a whole tenant or session.
ENTRANCES: Final = {
    "sessions_pkey": ["id ="],
    "sessions_owned": ["tenant_id =", "user_id ="],
    "sessions_due": ["expires_at <="],
    "members_pkey": ["session_id ="],
    "members_of_user": ["tenant_id =", "user_id ="],
    "messages_pkey": ["session_id =", "seq "],
    "messages_id_key": ["id ="],
    "messages_once": ["session_id =", "sender =", "client_id ="],
    "cursors_pkey": ["session_id ="],
    "events_pkey": ['"position" ='],
    "events_id_key": ["id >"],
    "events_of_tenant": ["tenant_id, id"],
    "events_once": ["key ="],
    "events_unnumbered": [],
    "outbox_pkey": [],
    "revocations_pkey": ["id >"],
}


@pytest.mark.parametrize("is_analyzed", [False, True])
async def test_every_statement_finds_its_rows_by_an_index(beside: Connection, is_analyzed: bool) -> None:
    if is_analyzed:
        await beside.execute("ANALYZE")  # all is empty: nothing is cheaper than to read everything
    assert len(statements()) >= 25
    for name, sql in statements().items():
        count = max((number for number in range(1, 20) if f"${number}" in sql), default=0)
        nothing = f"({', '.join(['NULL'] * count)})" if count else ""
        await beside.execute(f"PREPARE examined AS {sql}")
        plan = [line for (line,) in await beside.fetch(f"EXPLAIN (COSTS OFF) EXECUTE examined {nothing}")]
        await beside.execute("DEALLOCATE examined")
        assert plan
        assert [line for line in plan if "Seq Scan on" in line] == [], name
        for line, below in zip(plan, [*plan[1:], ""], strict=True):
            if used := re.search(r"Index.* Scan.* (?:using|on) (\w+_\w+)", line):
                wanted = ENTRANCES[used[1]]
                entered_by = below if "Index Cond" in below else ""
                assert all(column in entered_by for column in wanted), (name, line, below)


async def test_a_tally_of_2000_sessions_looks_at_no_others(beside: Connection) -> None:
    ids = await beside.fetch(
        "INSERT INTO sessions (id, tenant_id, user_id, kind, exclusive, title, metadata, context, last_at, "
        "created_at, updated_at) "
        "SELECT gen_random_uuid(), 't', 'alice', 'persistent', false, '', '{}', '{}', now(), now(), now() "
        "FROM generate_series(1, 6000) RETURNING id::text"
    )
    await beside.execute("ANALYZE sessions")
    explain = f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {messages._TALLY}"
    plan = [line for (line,) in await beside.fetch(explain, messages.ids([id for (id,) in ids[::3]]))]
    assert any("sessions_pkey" in line for line in plan)
    assert any("Index Cond: (id = ANY" in line for line in plan)
    assert any("Scan" in line and "rows=2000" in line for line in plan), plan
    assert not any("Removed" in line for line in plan)


async def test_ids_of_sessions_need_no_order(log: PostgresLog) -> None:
    """Drafts come back in their order, whatever the order of ids and of locks."""
    made: list[Session] = [
        await opened(log, id=id) for id in sorted((new_id() for _ in range(6)), reverse=True)
    ]
    outcomes = await appended(
        log, *(draft(session) for session in made), *(draft(session) for session in made)
    )
    assert [outcome.seq for outcome in outcomes] == [1] * 6 + [2] * 6
    await log.update("t", made[0].id, Change(title="x"), now=NOW, expected_version=1)
