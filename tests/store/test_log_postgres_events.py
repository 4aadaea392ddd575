"""Events in Postgres while several read them: whoever asks is told what had been committed before."""

import time

import pytest

from gateway.runtime.events import Events
from store.log_postgres import events, outbox
from store.log_postgres.connection import connect
from tests.auth.makers import StandingClock
from tests.store.making import NOW, attendance, opened
from tests.store.postgres_databases import OPTIONS, Databases, blocked, nodes


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
