"""The records: a hit asks no database, a miss asks once, and nothing old is served after a write."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from store import lists, shelf
from store.cache import Cache, Entry
from store.cache_memory import MemoryCache
from store.errors import Ended, NotFound, Unavailable, VersionConflict
from store.log import Log
from store.log_sqlite.log import SqliteLog
from store.pages import PAGE
from store.records import INTENT_MS, Records
from store.types import Change, Mark, Session
from tests.store.conftest import ManualClock
from tests.store.making import NOW, appended, draft, new_id, new_session, opened
from tests.waiting import turns, until


class WatchedLog:
    """A log that counts what it is asked, and can be held: before it asks, or before it answers."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.asked: Counter[str] = Counter()
        self.asking = asyncio.Event()
        self.answering = asyncio.Event()
        self.asking.set()
        self.answering.set()
        self.failure: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._log, name)

        async def watched(*given: Any, **more: Any) -> Any:
            self.asked[name] += 1
            await self.asking.wait()
            if self.failure is not None:
                raise self.failure
            answer = await method(*given, **more)
            await self.answering.wait()
            return answer

        return watched

    @property
    def questions(self) -> int:
        return self.asked.total()


class AbsentCache:
    """A cache that can be away, and remembers how often it was tried."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.is_away = False
        self.tried = 0

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._cache, name)

        async def reached(*given: Any, **more: Any) -> Any:
            self.tried += 1
            if self.is_away:
                raise Unavailable("the cache is away")
            return await method(*given, **more)

        return reached


class Bench:
    """A log, a cache, and any number of nodes on them."""

    def __init__(self, log: SqliteLog) -> None:
        self.truth = log
        self.log = WatchedLog(log)
        self.clock = ManualClock()
        self.cache = AbsentCache(MemoryCache(self.clock))
        self._nodes: list[Records] = []

    def node(self, skew_ms: int = 0) -> Records:
        records = Records(
            self.log,
            self.cache,
            now_ms=lambda: round(self.clock.now * 1000) + skew_ms,
            monotonic=self.clock,
        )
        self._nodes.append(records)
        return records

    def later(self, ms: int) -> None:
        self.clock.now += ms / 1000

    async def asked_by(self, call: Awaitable[Any]) -> int:
        """How many questions to the log a call costs."""
        before = self.log.questions
        await call
        return self.log.questions - before

    async def close(self) -> None:
        for records in self._nodes:
            await records.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    log = SqliteLog(tmp_path)
    await log.start()
    bench = Bench(log)
    yield bench
    bench.log.asking.set()
    bench.log.answering.set()
    await bench.close()
    await log.close()


@pytest.fixture
def records(bench: Bench) -> Records:
    return bench.node()


async def listed(records: Records, user: str = "alice") -> list[str]:
    return [row.session.id for row in await records.list_for("t", user, before=None, limit=100)]


# -- a hit asks no database


async def test_a_hit_of_any_level_asks_no_database(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await appended(bench.truth, *(draft(session) for _ in range(2 * PAGE + 10)))
    reads: list[Callable[[], Awaitable[Any]]] = [
        lambda: records.get("t", session.id),
        lambda: records.access("t", session.id, "alice"),
        lambda: records.list_for("t", "alice", before=None, limit=20),
        lambda: records.read(session.id, after=0, limit=PAGE),
        lambda: records.read(session.id, after=17, limit=PAGE),
        lambda: records.read_before(session.id, before=PAGE + 3, limit=30),
    ]
    first = [await read() for read in reads]
    before = bench.log.questions
    assert [await read() for read in reads] == first
    assert bench.log.questions == before
    assert records.counts["session_hit"] >= 2
    assert records.counts["list_hit"] == 1
    assert records.counts["page_hit"] >= 4


async def test_opening_a_list_warms_its_sessions(bench: Bench, records: Records) -> None:
    ids = [(await opened(bench.truth)).id for _ in range(3)]
    assert await bench.asked_by(listed(records)) == 1
    for id in ids:
        assert await bench.asked_by(records.get("t", id)) == 0


async def test_what_is_not_there_is_asked_for_again(bench: Bench, records: Records) -> None:
    id = new_id()
    assert await records.get("t", id) is None
    assert await records.access("t", id, "alice") is None
    session = await opened(bench.truth, id=id)
    assert await records.get("t", id) == session
    assert await records.access("other", id, "alice") is None
    assert await records.get("other", id) is None
    assert await records.access("t", id, "mallory") is None


async def test_entries_expire(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await records.get("t", session.id)
    await listed(records)
    bench.later(lists.TTL_MS)
    assert await bench.asked_by(listed(records)) == 1
    bench.later(lists.SESSION_TTL_MS)
    assert await bench.asked_by(records.get("t", session.id)) == 1


async def test_what_another_version_has_stored_is_not_understood_and_read_anew(
    bench: Bench, records: Records
) -> None:
    session = await opened(bench.truth)
    for key in (
        f"session1:t:{session.id}",
        f"role1:t:{session.id}:alice",
        "list1:t:alice",
        f"page1:{session.id}:0",
    ):
        await bench.cache.put(key, b"\xc1 nonsense", version=0, ttl_ms=10_000)
    assert await records.get("t", session.id) == session
    assert await records.access("t", session.id, "alice") is not None
    assert await listed(records) == [session.id]
    assert await records.read(session.id, after=0, limit=5) == []


# -- a miss asks once


async def test_callers_at_once_ask_one_question(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await appended(bench.truth, *(draft(session) for _ in range(PAGE)))
    reads: list[Callable[[], Awaitable[Any]]] = [
        lambda: records.get("t", session.id),
        lambda: records.access("t", session.id, "alice"),
        lambda: records.list_for("t", "alice", before=None, limit=20),
        lambda: records.read(session.id, after=0, limit=PAGE),
    ]
    for read in reads:
        await bench.cache.close()
        bench.log.asking.clear()
        before = bench.log.questions
        calls = [asyncio.ensure_future(read()) for _ in range(30)]
        await turns(5)
        bench.log.asking.set()
        answers = await asyncio.gather(*calls)
        assert bench.log.questions == before + 1
        assert all(answer == answers[0] for answer in answers)


async def test_the_question_survives_the_caller_who_asked_it(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    bench.log.asking.clear()
    first = asyncio.ensure_future(records.get("t", session.id))
    await turns(3)
    second = asyncio.ensure_future(records.get("t", session.id))
    await turns(3)
    first.cancel()
    await turns(3)
    bench.log.asking.set()
    assert await second == session
    assert first.cancelled()
    assert bench.log.questions == 1


async def test_a_question_that_nobody_waits_for_any_more_still_fills_the_cache(
    bench: Bench, records: Records
) -> None:
    session = await opened(bench.truth)
    bench.log.asking.clear()
    call = asyncio.ensure_future(records.get("t", session.id))
    await turns(3)
    call.cancel()
    await turns(3)
    bench.log.asking.set()
    await until(lambda: f"session1:t:{session.id}" in bench.cache._cache._values)  # type: ignore[attr-defined]
    assert await bench.asked_by(records.get("t", session.id)) == 0


async def test_a_failure_reaches_everybody_who_waits_and_the_next_one_asks_anew(
    bench: Bench, records: Records
) -> None:
    session = await opened(bench.truth)
    bench.log.asking.clear()
    bench.log.failure = Unavailable("the disk is on fire")
    calls = [asyncio.ensure_future(records.get("t", session.id)) for _ in range(3)]
    await turns(3)
    bench.log.asking.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    bench.log.failure = None
    assert await records.get("t", session.id) == session


async def test_closing_ends_what_is_under_way(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    bench.log.asking.clear()
    call = asyncio.ensure_future(records.get("t", session.id))
    await turns(3)
    await records.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    await records.close()


# -- after a write nothing old is served


async def warm(records: Records, session: Session, *users: str) -> None:
    await records.get("t", session.id)
    for user in users:
        await records.access("t", session.id, user)
        await listed(records, user)


async def test_every_change_of_a_session_is_seen_at_once_and_on_every_node(bench: Bench) -> None:
    one, two = bench.node(), bench.node()
    session = await one.create(new_session(exclusive=True, ttl_s=60), limit=5)
    writes: list[Callable[[], Awaitable[Any]]] = [
        lambda: one.update("t", session.id, Change(title="new"), now=NOW, expected_version=None),
        lambda: one.put_member("t", session.id, "bob", "reader", now=NOW),
        lambda: one.put_member("t", session.id, "bob", "writer", now=NOW),
        lambda: one.put_member("t", session.id, "alice", "reader", now=NOW),
        lambda: one.take_over("t", session.id),
        lambda: one.remove_member("t", session.id, "bob", now=NOW),
        lambda: one.expire_due(now=NOW + 100_000, limit=5),
    ]
    for write in writes:
        await warm(two, session, "alice", "bob")
        await write()
        for node in (one, two):
            assert await node.get("t", session.id) == await bench.truth.get("t", session.id)
            for user in ("alice", "bob"):
                assert await node.access("t", session.id, user) == await bench.truth.access(
                    "t", session.id, user
                )
                truth = await bench.truth.list_for("t", user, before=None, limit=100)
                assert await node.list_for("t", user, before=None, limit=100) == truth


async def test_what_a_write_returned_is_a_hit(bench: Bench, records: Records) -> None:
    session = await records.create(new_session(), limit=5)
    assert await bench.asked_by(records.access("t", session.id, "alice")) == 0
    changed = await records.update("t", session.id, Change(title="new"), now=NOW, expected_version=1)
    assert await bench.asked_by(records.get("t", session.id)) == 0
    assert await records.get("t", session.id) == changed


async def test_a_reading_that_began_before_a_write_does_not_outlive_it(
    bench: Bench, records: Records
) -> None:
    session = await opened(bench.truth, title="old")
    bench.log.answering.clear()
    reading = asyncio.ensure_future(records.get("t", session.id))
    listing = asyncio.ensure_future(listed(records))
    await until(lambda: bench.log.questions == 2)
    other = bench.node()
    writing = asyncio.ensure_future(
        other.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    )
    adding = asyncio.ensure_future(other.create(new_session(), limit=5))
    # The old answers are on their way when the new ones are stored.
    await until(lambda: bench.log.questions == 4)
    bench.log.answering.set()
    old = await reading
    assert old is not None
    await listing
    await asyncio.gather(writing, adding)
    found = await records.get("t", session.id)
    assert found is not None
    assert found.title == "new"
    assert len(await listed(records)) == 2


async def test_who_asks_after_a_write_is_not_answered_with_what_was_read_before(
    bench: Bench, records: Records
) -> None:
    session = await opened(bench.truth, title="old")
    gate = asyncio.Event()
    load = bench.log

    async def held(tenant: str, id: str) -> Session | None:
        answer = await bench.truth.get(tenant, id)
        await gate.wait()
        return answer

    load.get = held  # type: ignore[attr-defined]
    before = asyncio.ensure_future(records.get("t", session.id))
    await until(lambda: ("session", "t", session.id) in records._flights)
    del load.get
    await records.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    await bench.cache.close()
    after = await records.get("t", session.id)
    gate.set()
    await before
    assert after is not None
    assert after.title == "new"


async def test_a_node_killed_between_commit_and_cache_leaves_nothing_old_behind(bench: Bench) -> None:
    dying, other = bench.node(), bench.node()
    session = await opened(bench.truth, title="old")
    await bench.truth.put_member("t", session.id, "bob", "writer", now=NOW)
    for write in (
        dying.update("t", session.id, Change(title="new"), now=NOW, expected_version=None),
        dying.remove_member("t", session.id, "bob", now=NOW),
        dying.create(new_session(), limit=9),
        dying.end("t", session.id, "closed", now=NOW),
    ):
        await warm(other, session, "alice", "bob")
        bench.log.answering.clear()
        writing = asyncio.ensure_future(write)
        before = await bench.truth.events(after=0, limit=100)
        # The intention is told before the log is asked. Answers are let through until the log has committed.
        while len(await bench.truth.events(after=0, limit=100)) == len(before):
            bench.log.answering.set()
            await turns(1)
            bench.log.answering.clear()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        bench.log.answering.set()
        assert await other.get("t", session.id) == await bench.truth.get("t", session.id)
        for user in ("alice", "bob"):
            assert await other.access("t", session.id, user) == await bench.truth.access(
                "t", session.id, user
            )
            assert await listed(other, user) == [
                row.session.id for row in await bench.truth.list_for("t", user, before=None, limit=100)
            ]


async def test_a_write_that_fails_costs_some_hits_and_nothing_else(bench: Bench, records: Records) -> None:
    session = await records.create(new_session(), limit=5)
    with pytest.raises(VersionConflict):
        await records.update("t", session.id, Change(title="new"), now=NOW, expected_version=7)
    with pytest.raises(NotFound):
        await records.update("t", new_id(), Change(title="new"), now=NOW, expected_version=None)
    assert await records.get("t", session.id) == session
    bench.later(INTENT_MS)
    await records.get("t", session.id)
    assert await bench.asked_by(records.get("t", session.id)) == 0
    await records.end("t", session.id, "closed", now=NOW)
    assert await records.end("t", session.id, "closed", now=NOW) is None
    with pytest.raises(Ended):
        await records.put_member("t", session.id, "bob", "reader", now=NOW)


# -- lists


async def test_a_message_moves_its_session_to_the_top_without_a_query(bench: Bench, records: Records) -> None:
    first, second = await opened(bench.truth, created_at=NOW), await opened(bench.truth, created_at=NOW + 1)
    assert await listed(records) == [second.id, first.id]
    await records.append(
        [
            draft(first, content="x" * 200, created_at=NOW + 5),
            draft("nowhere"),
            draft(first, created_at=NOW + 6),
        ]
    )
    assert await bench.asked_by(listed(records)) == 0
    assert await records.list_for("t", "alice", before=None, limit=9) == await bench.truth.list_for(
        "t", "alice", before=None, limit=9
    )


async def test_a_repeated_send_does_not_turn_a_list_back(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    first, second = draft(session), draft(session, content="last")
    await records.append([first, second])
    await listed(records)
    await records.append([first])
    (row,) = await records.list_for("t", "alice", before=None, limit=9)
    assert (row.preview, row.unread) == ("last", 2)


async def test_a_read_marker_is_seen_in_the_list(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await records.append([draft(session), draft(session)])
    await listed(records)
    await records.mark(
        [Mark(session=session.id, user="alice", delivered=2), Mark(session=session.id, user="alice", read=99)]
    )
    (row,) = await records.list_for("t", "alice", before=None, limit=9)
    assert (row.read, row.unread) == (2, 0)
    await records.append([draft(session)])
    (row,) = await records.list_for("t", "alice", before=None, limit=9)
    assert (row.read, row.unread) == (2, 1)


async def test_delivery_alone_costs_no_hit(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await records.append([draft(session)])
    await listed(records)
    await records.mark([Mark(session=session.id, user="alice", delivered=1)])
    assert await bench.asked_by(listed(records)) == 0


async def test_a_changed_list_is_cached_again_after_the_skew(bench: Bench, records: Records) -> None:
    await records.create(new_session(), limit=5)
    assert await bench.asked_by(listed(records)) == 1
    assert await bench.asked_by(listed(records)) == 1
    bench.later(lists.SKEW_MS + 1)
    assert await bench.asked_by(listed(records)) == 1
    assert await bench.asked_by(listed(records)) == 0


@pytest.mark.parametrize("skew_ms", [-1_900, 1_900])
async def test_lists_are_right_on_nodes_whose_clocks_differ(bench: Bench, skew_ms: int) -> None:
    one, two = bench.node(), bench.node(skew_ms)
    await opened(bench.truth)
    await listed(two)
    bench.log.answering.clear()
    await bench.cache.close()
    # Node two reads the list, node one changes it, and only then does node two store what it has read.
    reading = asyncio.ensure_future(listed(two))
    await until(lambda: bench.log.asked["list_for"] == 2)
    writing = asyncio.ensure_future(one.create(new_session(), limit=5))
    await until(lambda: bench.log.asked["create"] == 1)
    bench.log.answering.set()
    await asyncio.gather(reading, writing)
    assert len(await listed(two)) == 2
    assert len(await listed(one)) == 2


async def test_a_list_is_paged_as_the_log_pages_it(bench: Bench, records: Records) -> None:
    for number in range(10):
        await opened(bench.truth, created_at=NOW + number // 3)
    await listed(records)
    before: tuple[int, str] | None = None
    for _ in range(5):
        page = await records.list_for("t", "alice", before=before, limit=3)
        assert page == await bench.truth.list_for("t", "alice", before=before, limit=3)
        before = (page[-1].last_at, page[-1].session.id) if page else before
    assert await records.list_for("t", "alice", before=None, limit=0) == []


async def test_who_has_too_many_sessions_is_served_by_the_log(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LIST_LIMIT", 3)
    for _ in range(5):
        await opened(bench.truth)
    assert await bench.asked_by(listed(records)) == 2
    assert await bench.asked_by(listed(records)) == 1
    assert len(await listed(records)) == 5


async def test_a_list_of_which_a_part_was_lost_is_read_anew(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await listed(records)
    for key in (
        f"session1:t:{session.id}",
        f"tail1:{session.id}",
        f"read1:{session.id}:alice",
        "list1:t:alice",
    ):
        bench.cache._cache._remove(key)  # type: ignore[attr-defined]
        assert await bench.asked_by(listed(records)) == 1
        assert await bench.asked_by(listed(records)) == 0


# -- a cache that is away


async def test_without_a_cache_everything_comes_from_the_log(bench: Bench, records: Records) -> None:
    bench.cache.is_away = True
    session = await records.create(new_session(), limit=5)
    await records.append([draft(session) for _ in range(PAGE + 5)])
    await records.mark([Mark(session=session.id, user="alice", read=1)])
    for _ in range(2):
        assert await records.access("t", session.id, "alice") == await bench.truth.access(
            "t", session.id, "alice"
        )
        assert await listed(records) == [session.id]
        assert [m.seq for m in await records.read(session.id, after=0, limit=60)] == list(range(1, PAGE + 6))
        assert [m.seq for m in await records.read_before(session.id, before=4, limit=60)] == [1, 2, 3]


async def test_a_cache_that_is_away_is_tried_once_a_second(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    bench.cache.is_away = True
    for _ in range(20):
        await records.get("t", session.id)
    assert bench.cache.tried == 1
    bench.later(1_000)
    for _ in range(20):
        await records.get("t", session.id)
    assert bench.cache.tried == 2


async def test_what_changed_while_the_cache_was_away_is_not_served_when_it_is_back(
    bench: Bench, records: Records
) -> None:
    session = await records.create(new_session(title="old"), limit=5)
    bench.later(lists.SKEW_MS + 1)
    await records.append([draft(session)])
    await warm(records, session, "alice")
    bench.cache.is_away = True
    await records.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    await records.append([draft(session, content="later")])
    await records.mark([Mark(session=session.id, user="alice", read=2)])
    added = await records.create(new_session(created_at=NOW - 5), limit=5)
    bench.cache.is_away = False
    assert records._shelf.owed > 0
    bench.later(1_000)
    truth = await bench.truth.list_for("t", "alice", before=None, limit=9)
    assert await records.list_for("t", "alice", before=None, limit=9) == truth
    assert [row.session.id for row in truth] == [session.id, added.id]
    assert records._shelf.owed == 0
    found = await records.get("t", session.id)
    assert found is not None
    assert found.title == "new"


async def test_what_is_owed_to_the_cache_is_bounded(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "OWED_LIMIT", 10)
    session = await opened(bench.truth)
    await listed(records)
    bench.cache.is_away = True
    for number in range(50):
        await records._shelf.replace([(f"k{number}", b"", 1)], 1_000)
        await records._shelf.drop([("same", number)], 1_000)
    assert records._shelf.owed == 10
    assert records._shelf.is_away
    bench.cache.is_away = False
    bench.later(1_000)
    assert not records._shelf.is_away
    await records.get("t", session.id)
    assert records._shelf.owed == 0
    assert not await bench.cache.put("same", b"", version=48, ttl_ms=1_000)


async def test_a_cache_that_goes_away_while_it_is_told_is_told_again(bench: Bench, records: Records) -> None:
    session = await records.create(new_session(title="old"), limit=5)
    puts = 0

    class Failing(AbsentCache):
        async def put_many(self, entries: Sequence[Entry], *, ttl_ms: int) -> None:
            nonlocal puts
            puts += 1
            raise Unavailable("gone in the middle")

    records._shelf._cache = Failing(bench.cache._cache)
    await records.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    assert puts == 1
    records._shelf._cache = bench.cache
    bench.later(1_000)
    found = await records.get("t", session.id)
    assert found is not None
    assert found.title == "new"
