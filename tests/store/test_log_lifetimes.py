"""What the log promises of how long a session lives, and of who is in it from the beginning."""

import pytest

from store.errors import LimitReached
from store.log import Log
from store.records import Records
from store.types import Change, Listing, Member
from tests.store.making import NOW, new_session, opened
from tests.store.nodes import Bench, listed


async def of_user(log: Log, user: str) -> list[Listing]:
    return await log.list_for("t", user, before=None, limit=10)


async def test_a_temporary_session_is_made_persistent_and_no_sweep_ends_it(log: Log) -> None:
    session = await opened(log, ttl_s=60)
    kept = await log.update("t", session.id, Change(ttl_s=0), now=NOW + 5, expected_version=1)
    assert (kept.ttl_s, kept.expires_at, kept.version, kept.title) == (None, None, 2, session.title)
    assert await log.get("t", session.id) == kept
    await log.extend({session.id: NOW + 9})
    assert await log.expire_due(now=NOW + 10**9, limit=5) == []


async def test_a_persistent_session_is_made_temporary_from_that_moment_on(log: Log) -> None:
    session = await opened(log, ttl_s=None)
    lent = await log.update("t", session.id, Change(ttl_s=90), now=NOW + 5_000, expected_version=None)
    assert (lent.ttl_s, lent.expires_at) == (90, NOW + 95_000)
    assert await log.expire_due(now=NOW + 94_999, limit=5) == []
    (over,) = await log.expire_due(now=NOW + 95_000, limit=5)
    assert (over.id, over.end_reason) == (session.id, "expired")


async def test_a_shorter_ttl_brings_the_end_nearer(log: Log) -> None:
    session = await opened(log, ttl_s=6_000)
    await log.extend({session.id: NOW + 9_000_000})
    changed = await log.update("t", session.id, Change(ttl_s=1), now=NOW, expected_version=None)
    assert changed.expires_at == NOW + 1_000


@pytest.mark.parametrize("ttl_s", [60, None])
async def test_a_change_of_something_else_leaves_the_life_as_it_is(log: Log, ttl_s: int | None) -> None:
    session = await opened(log, ttl_s=ttl_s)
    changed = await log.update("t", session.id, Change(title="x"), now=NOW + 7, expected_version=None)
    assert (changed.ttl_s, changed.expires_at) == (session.ttl_s, session.expires_at)


async def test_members_from_the_beginning_are_stored_with_the_session(log: Log) -> None:
    new = new_session(members=(("bob", "reader"), ("carol", "writer")))
    session = await log.create(new, limit=5)
    assert session.version == 1
    assert await log.members(session.id) == [
        Member(user="alice", role="owner", since=NOW),
        Member(user="bob", role="reader", since=NOW),
        Member(user="carol", role="writer", since=NOW),
    ]
    assert [(row.session.id, row.role) for row in await of_user(log, "bob")] == [(session.id, "reader")]
    assert [event.kind for event in await log.events(after=0, limit=9)] == ["created"]
    assert await log.create(new, limit=5) == session
    assert len(await log.members(session.id)) == 3


async def test_a_session_that_is_refused_has_no_members(log: Log) -> None:
    await opened(log)
    with pytest.raises(LimitReached):
        await log.create(new_session(members=(("bob", "reader"),)), limit=1)
    assert await of_user(log, "bob") == []


async def test_a_cached_list_of_a_member_from_the_beginning_shows_the_session(
    bench: Bench, records: Records
) -> None:
    other = bench.node()
    assert await listed(records, "bob") == await listed(other, "bob") == []
    session = await other.create(new_session(members=(("bob", "reader"),)), limit=5)
    assert await listed(records, "bob") == await listed(other, "bob") == [session.id]
