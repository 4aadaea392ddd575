"""The records: a hit asks no database, a miss asks once, and nothing old is served after a write."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from store import lists, tails
from store.errors import Ended, NotFound, Unavailable, VersionConflict
from store.pages import PAGE
from store.records import INTENT_MS, Records
from store.types import Change, Session
from tests.store.making import NOW, appended, draft, new_id, new_session, opened
from tests.store.nodes import Bench, listed, warm
from tests.waiting import turns, until

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
    bench.later(tails.TTL_MS)
    assert await bench.asked_by(listed(records)) == 1
    bench.later(lists.SESSION_TTL_MS)
    assert await bench.asked_by(records.get("t", session.id)) == 1


async def test_what_another_version_has_stored_is_not_understood_and_read_anew(
    bench: Bench, records: Records
) -> None:
    session = await opened(bench.truth)
    for key in (
        f"{session.id}|session1:t",
        f"{session.id}|role1:t/alice",
        "alice|list1:t",
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
    await until(lambda: bench.cache.holds(f"{session.id}|session1:t"))
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
        # A list is not cached for a while after it has changed.
        bench.later(lists.MARGIN_MS + 1)
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
    await records.take_over("t", session.id)
    assert await bench.asked_by(records.get("t", session.id)) == 0


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


async def test_a_removed_member_is_gone_though_somebody_else_changed_the_session_meanwhile(
    bench: Bench,
) -> None:
    one, two = bench.node(), bench.node()
    session = await opened(bench.truth)
    await bench.truth.put_member("t", session.id, "bob", "writer", now=NOW)
    gate = asyncio.Event()

    async def held(*given: Any, **more: Any) -> Session:
        await gate.wait()
        return await bench.truth.remove_member(*given, **more)

    bench.log.remove_member = held  # type: ignore[attr-defined]
    removing = asyncio.ensure_future(one.remove_member("t", session.id, "bob", now=NOW))
    await turns(5)
    # The intention is told; what is written and read now is newer than it, and older than what comes.
    await two.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    assert await two.access("t", session.id, "bob") is not None
    gate.set()
    await removing
    assert await two.access("t", session.id, "bob") is None


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
