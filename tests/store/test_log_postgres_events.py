"""Events in Postgres while several read them: whoever asks is told what had been committed before."""

from store.log_postgres import events
from store.log_postgres.connection import connect
from tests.store.making import opened
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
