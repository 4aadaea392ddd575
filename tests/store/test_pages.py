"""Pages of messages: the same as the log's answers, full ones kept, unfinished ones never."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from store.cache_memory import MemoryCache
from store.flights import Flights
from store.log_sqlite.log import SqliteLog
from store.pages import PAGE, PAGE_BYTES, Pages
from store.shelf import Shelf
from store.types import Message
from tests.store.making import NOW, appended, draft, new_id, opened
from tests.waiting import turns


class ListLog:
    """Messages in a list, and what was asked for."""

    def __init__(self, head: int) -> None:
        self.messages = [
            Message(
                session="s",
                seq=seq,
                id=f"m{seq}",
                client_id=f"c{seq}",
                sender="alice",
                role="user",
                content="x",
                metadata=b"{}",
                created_at=NOW,
            )
            for seq in range(1, head + 1)
        ]
        self.asked: list[tuple[str, int, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, session: str, *, after: int, limit: int) -> list[Message]:
        self.asked.append(("read", after, limit))
        page = [message for message in self.messages if message.seq > after][:limit]
        await self.gate.wait()
        return page

    async def read_before(self, session: str, *, before: int, limit: int) -> list[Message]:
        self.asked.append(("read_before", before, limit))
        return [message for message in self.messages if message.seq < before][-limit:] if limit else []


def pages_on(log: ListLog) -> Pages:
    return Pages(log, Shelf(MemoryCache()), Flights())  # type: ignore[arg-type]


@given(
    head=st.integers(0, 3 * PAGE + 5),
    calls=st.lists(
        st.tuples(
            st.sampled_from(["read", "read_before"]),
            st.integers(-3, 4 * PAGE) | st.just(10**12),
            st.integers(0, 2 * PAGE + 7),
        ),
        max_size=8,
    ),
)
@settings(max_examples=150)
def test_pages_answer_as_the_log_does(head: int, calls: list[tuple[str, int, int]]) -> None:
    async def compare() -> None:
        log = ListLog(head)
        pages = pages_on(log)
        for name, where, limit in calls:
            if name == "read":
                expected = await log.read("s", after=where, limit=limit)
                assert await pages.read("s", after=where, limit=limit) == expected
            else:
                expected = await log.read_before("s", before=where, limit=limit)
                assert await pages.read_before("s", before=where, limit=limit) == expected

    asyncio.run(compare())


async def test_a_full_page_is_read_once_and_an_unfinished_one_each_time() -> None:
    log = ListLog(PAGE + 10)
    pages = pages_on(log)
    for _ in range(3):
        await pages.read("s", after=0, limit=PAGE)
    assert log.asked == [("read", 0, PAGE)]
    for _ in range(3):
        await pages.read("s", after=PAGE + 2, limit=PAGE)
    assert log.asked[1:] == [("read", PAGE, PAGE)] * 3


async def test_new_messages_are_seen_behind_a_page_that_was_unfinished() -> None:
    log = ListLog(PAGE - 1)
    pages = pages_on(log)
    assert len(await pages.read("s", after=0, limit=100)) == PAGE - 1
    log.messages = ListLog(PAGE + 1).messages
    assert len(await pages.read("s", after=0, limit=100)) == PAGE + 1


async def test_who_asks_after_a_commit_sees_it_though_a_reading_from_before_is_under_way() -> None:
    log = ListLog(3)
    pages = pages_on(log)
    log.gate.clear()
    before = asyncio.ensure_future(pages.read("s", after=0, limit=10))
    await turns(3)
    log.messages = ListLog(4).messages
    after = [asyncio.ensure_future(pages.read("s", after=0, limit=10)) for _ in range(5)]
    await turns(3)
    log.gate.set()
    assert len(await before) == 3
    assert [len(page) for page in await asyncio.gather(*after)] == [4] * 5
    assert len(log.asked) <= 3


async def test_scrolling_back_uses_the_pages_that_are_there() -> None:
    log = ListLog(4 * PAGE)
    pages = pages_on(log)
    for before in (3 * PAGE + 20, 2 * PAGE + 20, PAGE + 20, 20):
        await pages.read_before("s", before=before, limit=PAGE)
    assert log.asked == [("read", n * PAGE, PAGE) for n in (3, 2, 1, 0)]
    await pages.read_before("s", before=3 * PAGE, limit=3 * PAGE)
    assert len(log.asked) == 4


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = SqliteLog(tmp_path)
    await log.start()
    yield log
    await log.close()


async def test_a_page_of_long_messages_is_served_and_not_kept(log: SqliteLog) -> None:
    session = await opened(log)
    cache = MemoryCache()
    pages = Pages(log, Shelf(cache), Flights())
    await appended(log, *(draft(session, content="x" * (PAGE_BYTES // PAGE)) for _ in range(PAGE)))
    assert len(await pages.read(session.id, after=0, limit=PAGE)) == PAGE
    assert cache.weight == 0


async def test_pages_come_back_from_the_cache_as_they_were(log: SqliteLog) -> None:
    session = await opened(log)
    pages = Pages(log, Shelf(MemoryCache()), Flights())
    odd = [
        draft(session, content='ż "\\\n', metadata=b'{ "a":1.50}', role=role) for role in ("tool", "system")
    ]
    await appended(log, *odd, *(draft(session) for _ in range(PAGE)))
    first = await pages.read(session.id, after=0, limit=PAGE)
    assert (
        await pages.read(session.id, after=0, limit=PAGE)
        == first
        == await log.read(session.id, after=0, limit=PAGE)
    )
    assert await pages.read(new_id(), after=0, limit=5) == []
