"""What the log promises of members, cursors, events and revocations."""

import asyncio

import pytest

from store.errors import Ended, NotFound
from store.log import Log
from store.types import Change, Cursor, EndReason, Event, Mark, Member, Revocation
from tests.store.making import NOW, appended, draft, new_id, opened

# -- members


async def test_members_are_listed_by_time_then_name(log: Log) -> None:
    session = await opened(log)
    for user, since in (("zoe", 5), ("bob", 9), ("carol", 5)):
        await log.put_member("t", session.id, user, "writer", now=NOW + since)
    assert [member.user for member in await log.members(session.id)] == ["alice", "carol", "zoe", "bob"]
    assert await log.members(new_id()) == []


async def test_a_role_can_be_changed_and_the_time_of_joining_stays(log: Log) -> None:
    session = await opened(log)
    added = await log.put_member("t", session.id, "bob", "reader", now=NOW + 1)
    assert (added.version, added.updated_at) == (2, NOW + 1)
    changed = await log.put_member("t", session.id, "bob", "writer", now=NOW + 2)
    assert (changed.version, changed.updated_at) == (3, NOW + 2)
    assert await log.members(session.id) == [
        Member(user="alice", role="owner", since=NOW),
        Member(user="bob", role="writer", since=NOW + 1),
    ]
    assert await log.get("t", session.id) == changed


async def test_the_owner_stays_owner(log: Log) -> None:
    session = await opened(log)
    await log.put_member("t", session.id, "alice", "reader", now=NOW)
    assert [member.role for member in await log.members(session.id)] == ["owner"]
    with pytest.raises(NotFound):
        await log.remove_member("t", session.id, "alice", now=NOW)
    assert [member.role for member in await log.members(session.id)] == ["owner"]


async def test_a_removed_member_is_gone_and_may_come_back(log: Log) -> None:
    session = await opened(log)
    await log.put_member("t", session.id, "bob", "reader", now=NOW)
    removed = await log.remove_member("t", session.id, "bob", now=NOW + 3)
    assert (removed.version, removed.updated_at) == (3, NOW + 3)
    assert await log.access("t", session.id, "bob") is None
    with pytest.raises(NotFound):
        await log.remove_member("t", session.id, "bob", now=NOW)
    await log.put_member("t", session.id, "bob", "writer", now=NOW + 4)
    assert Member(user="bob", role="writer", since=NOW + 4) in await log.members(session.id)


async def test_members_of_what_is_not_there_or_over_cannot_be_changed(log: Log) -> None:
    session, over = await opened(log), await opened(log)
    await log.put_member("t", over.id, "bob", "reader", now=NOW)
    await log.end("t", over.id, "deleted", now=NOW)
    for tenant, id in (("other", session.id), ("t", new_id())):
        with pytest.raises(NotFound):
            await log.put_member(tenant, id, "bob", "reader", now=NOW)
        with pytest.raises(NotFound):
            await log.remove_member(tenant, id, "bob", now=NOW)
    with pytest.raises(Ended):
        await log.put_member("t", over.id, "carol", "reader", now=NOW)
    with pytest.raises(Ended):
        await log.remove_member("t", over.id, "bob", now=NOW)
    assert [member.user for member in await log.members(session.id)] == ["alice"]


# -- cursors


async def test_watermarks_only_rise_and_never_above_the_head(log: Log) -> None:
    session = await opened(log)
    await appended(log, *(draft(session) for _ in range(5)))

    async def mark(delivered: int | None, read: int | None) -> list[Cursor]:
        await log.mark([Mark(session=session.id, user="alice", delivered=delivered, read=read)])
        return await log.cursors(session.id)

    assert await mark(3, None) == [Cursor(user="alice", delivered=3, read=0)]
    assert await mark(None, 2) == [Cursor(user="alice", delivered=3, read=2)]
    assert await mark(1, 1) == [Cursor(user="alice", delivered=3, read=2)]
    assert await mark(2, 4) == [Cursor(user="alice", delivered=3, read=4)]
    assert await mark(4, None) == [Cursor(user="alice", delivered=4, read=4)]
    assert await mark(4, 1) == [Cursor(user="alice", delivered=4, read=4)]
    assert await mark(99, 99) == [Cursor(user="alice", delivered=5, read=5)]
    assert await mark(None, None) == [Cursor(user="alice", delivered=5, read=5)]


async def test_marks_of_strangers_and_of_what_is_unknown_are_passed_over(log: Log) -> None:
    session = await opened(log)
    await appended(log, draft(session))
    await log.put_member("t", session.id, "bob", "reader", now=NOW)
    await log.mark(
        [
            Mark(session=session.id, user="mallory", read=1),
            Mark(session=new_id(), user="alice", read=1),
            Mark(session=session.id, user="bob", read=1),
            Mark(session=session.id, user="alice", delivered=1),
        ]
    )
    assert await log.cursors(session.id) == [
        Cursor(user="alice", delivered=1, read=0),
        Cursor(user="bob", delivered=0, read=1),
    ]
    await log.mark([])


async def test_several_marks_of_one_reader_in_one_call_leave_the_highest(log: Log) -> None:
    session = await opened(log)
    await appended(log, *(draft(session) for _ in range(5)))
    await log.mark([Mark(session=session.id, user="alice", read=n) for n in (2, 5, 3)])
    assert await log.cursors(session.id) == [Cursor(user="alice", delivered=0, read=5)]


async def test_whoever_has_no_watermark_has_no_cursor(log: Log) -> None:
    session = await opened(log)
    await log.mark([Mark(session=session.id, user="alice", delivered=5, read=5)])
    assert await log.cursors(session.id) == []
    assert await log.cursors(new_id()) == []


async def test_marks_of_an_ended_session_are_still_kept(log: Log) -> None:
    session = await opened(log)
    await appended(log, draft(session))
    await log.end("t", session.id, "closed", now=NOW)
    await log.mark([Mark(session=session.id, user="alice", read=1)])
    assert await log.cursors(session.id) == [Cursor(user="alice", delivered=0, read=1)]


# -- events


async def test_every_change_of_a_session_leaves_one_event_in_order(log: Log) -> None:
    session = await opened(log)
    await log.update("t", session.id, Change(title="x"), now=NOW + 1, expected_version=None)
    await log.put_member("t", session.id, "bob", "reader", now=NOW + 2)
    await log.remove_member("t", session.id, "bob", now=NOW + 3)
    await log.update("t", session.id, Change(status="archived"), now=NOW + 4, expected_version=None)
    await log.update(
        "t", session.id, Change(status="archived", title="y"), now=NOW + 5, expected_version=None
    )
    await log.update("t", session.id, Change(status="active"), now=NOW + 6, expected_version=None)
    await appended(log, draft(session))
    await log.take_over("t", session.id)
    await log.end("t", session.id, "deleted", now=NOW + 7)
    events = await log.events(after=0, limit=100)
    assert [(event.kind, event.version, event.at - NOW) for event in events] == [
        ("created", 1, 0),
        ("updated", 2, 1),
        ("updated", 3, 2),
        ("updated", 4, 3),
        ("archived", 5, 4),
        ("updated", 6, 5),
        ("updated", 7, 6),
        ("deleted", 8, 7),
    ]
    assert {(event.tenant, event.session, event.data) for event in events} == {("t", session.id, b"{}")}
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("reason", ["closed", "expired", "deleted"])
async def test_an_ended_session_leaves_exactly_one_terminal_event(log: Log, reason: EndReason) -> None:
    session = await opened(log, ttl_s=1)
    await log.end("t", session.id, reason, now=NOW)
    await log.end("t", session.id, "closed", now=NOW)
    await log.expire_due(now=NOW + 10_000, limit=10)
    events = await log.events(after=0, limit=100)
    assert [event.kind for event in events if event.kind != "created"] == [reason]


async def test_what_was_refused_leaves_no_event(log: Log) -> None:
    session = await opened(log)
    with pytest.raises(NotFound):
        await log.remove_member("t", session.id, "bob", now=NOW)
    with pytest.raises(NotFound):
        await log.update("other", session.id, Change(title="x"), now=NOW, expected_version=None)
    assert [event.kind for event in await log.events(after=0, limit=100)] == ["created"]


async def test_events_are_read_in_pages(log: Log) -> None:
    for _ in range(5):
        await opened(log)
    first = await log.events(after=0, limit=3)
    rest = await log.events(after=first[-1].id, limit=3)
    assert (len(first), len(rest)) == (3, 2)
    assert await log.events(after=rest[-1].id, limit=3) == []


async def test_a_reader_of_events_misses_none_while_they_are_made(log: Log) -> None:
    seen: list[Event] = []

    async def read() -> None:
        while len(seen) < 60:
            seen.extend(await log.events(after=seen[-1].id if seen else 0, limit=4))

    async def make() -> None:
        for _ in range(10):
            await opened(log)

    await asyncio.gather(read(), *(make() for _ in range(6)))
    assert seen == await log.events(after=0, limit=100)


# -- revocations


async def test_revocations_are_read_behind_an_id(log: Log) -> None:
    first = await log.revoke("t", "alice", before=NOW)
    second = await log.revoke("other", "bob", before=NOW + 1)
    third = await log.revoke("t", "alice", before=NOW + 2)
    assert first.id < second.id < third.id
    assert third == Revocation(id=third.id, tenant="t", user="alice", before=NOW + 2)
    assert await log.revocations(after=0, limit=10) == [first, second, third]
    assert await log.revocations(after=first.id, limit=1) == [second]
    assert await log.revocations(after=third.id, limit=10) == []


async def test_the_log_answers_a_ping(log: Log) -> None:
    await log.ping()
