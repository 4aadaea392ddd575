"""Events in Postgres while several read them: whoever asks is told what had been committed before."""

import asyncio
import time
from random import Random

import pytest

from gateway.runtime.events import Events
from store.log_postgres import events, outbox
from store.log_postgres.connection import connect
from tests.auth.makers import StandingClock
from tests.store.making import NOW, attendance, opened
from tests.store.postgres_databases import OPTIONS, Databases, blocked, nodes
from tests.waiting import later

WRITERS = 6
EACH = 25


async def test_an_event_that_another_reader_is_numbering_is_not_missed(databases: Databases) -> None:
    async with databases.fresh() as url, nodes(url, 1) as (log,):
        session = await opened(log)
        beside = await connect(url, OPTIONS)
        async with beside.transaction():
            assert await events.number(beside)
            task = await blocked(beside, log.events(after=0, limit=10))
        assert [event.session for event in await task] == [session.id]
        beside.terminate()


async def test_what_a_slow_transaction_commits_late_is_shown_after_what_was_shown_before(
    databases: Databases,
) -> None:
    async with databases.fresh() as url, nodes(url, 2) as (log, other):
        slow, quick = await opened(log), await opened(log)
        page = await log.events_of("t", after=0, limit=10)
        beside = await connect(url, OPTIONS)
        async with beside.transaction():
            await outbox.note(beside, [attendance(slow.id)])
            await log.note([attendance(quick.id)])
            seen = (await other.events_of("t", after=page.events[-1].id, limit=10)).events
            assert [event.session for event in seen] == [quick.id]
            # Not even a purge of everything passes over it.
            assert (await other.purge_events(before=NOW + 1, now=NOW, limit=10)).events == 3
        late = await log.events_of("t", after=seen[-1].id, limit=10)
        assert [event.session for event in late.events] == [slow.id]
        assert late.events[0].id > late.purged == seen[-1].id
        beside.terminate()


@pytest.mark.parametrize("of_tenant", [True, False], ids=["a tenant's", "all"])
async def test_who_pages_while_transactions_commit_in_another_order_than_they_began_misses_none(
    databases: Databases, of_tenant: bool
) -> None:
    async with databases.fresh() as url, nodes(url, 3) as logs:
        session = await opened(logs[0])
        chance = Random(7)  # noqa: S311 - how long each transaction stays open
        is_written = asyncio.Event()

        async def write() -> None:
            db = await connect(url, OPTIONS)
            for _ in range(EACH):
                async with db.transaction():
                    await outbox.note(db, [attendance(session.id)])
                    await later(chance.random() * 0.02)
            db.terminate()

        async def read(reader: int) -> list[int]:
            log, seen = logs[reader], [0]
            while True:
                is_last = is_written.is_set()
                if of_tenant:
                    page = list((await log.events_of("t", after=seen[-1], limit=3)).events)
                else:
                    page = await log.events(after=seen[-1], limit=3)
                seen += [event.id for event in page]
                if is_last and not page:
                    return seen[1:]

        readers = [asyncio.ensure_future(read(n)) for n in range(3)]
        await asyncio.gather(*(write() for _ in range(WRITERS)))
        is_written.set()
        known = [event.id for event in await logs[0].events(after=0, limit=1000)]
        assert len(known) == 1 + WRITERS * EACH
        for seen in await asyncio.gather(*readers):
            assert seen == known


async def test_a_node_whose_clock_is_fast_purges_nothing_before_its_time(databases: Databases) -> None:
    now, day = time.time_ns() // 1_000_000, 86_400_000
    async with databases.fresh() as url, nodes(url, 1) as (log,):
        for age in (3 * day, 0):
            await opened(log, created_at=now - age)
        assert len(await log.events(after=0, limit=10)) == 2
        fast = now + 10 * day
        purged = await log.purge_events(before=fast - 2 * day, now=fast, limit=100)
        assert (purged.events, purged.is_done) == (1, True)
        assert len(await log.events(after=0, limit=10)) == 1


async def test_events_that_nobody_reads_get_their_ids_with_the_purges(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "NUMBERED_AT_ONCE", 2)
    async with databases.fresh() as url, nodes(url, 1) as (log,):
        for _ in range(5):
            await opened(log)
        kept = Events(log, StandingClock(NOW), "n1", 1, has_webhook=False)
        await kept.purge()
        beside = await connect(url, OPTIONS)
        assert await beside.fetchval("SELECT count(*) FROM events WHERE id IS NULL") == 0
        assert kept.purged == 0
        beside.terminate()
