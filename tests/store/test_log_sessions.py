"""What the log promises of sessions: made, seen, listed, changed, ended once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from store.errors import Ended, Invalid, LimitReached, NotFound, TakenOver, VersionConflict
from store.log import Log
from store.types import Change, EndReason, Listing, Mark, Member, Refused, Session
from tests.store.making import NOW, appended, draft, new_id, new_session, opened


async def listed(log: Log, user: str = "alice", tenant: str = "t") -> list[str]:
    return [listing.session.id for listing in await log.list_for(tenant, user, before=None, limit=100)]


# -- create


async def test_a_temporary_session_begins_as_documented(log: Log) -> None:
    new = new_session(
        title="Plans",
        ttl_s=60,
        exclusive=True,
        context=b'{"c": 1}',
        metadata=b'{"m": [1, 2]}',
        text="text",
        voice="voice",
    )
    session = await log.create(new, limit=1)
    assert session == Session(
        id=new.id,
        tenant="t",
        owner="alice",
        title="Plans",
        status="active",
        exclusive=True,
        ttl_s=60,
        expires_at=NOW + 60_000,
        head=0,
        epoch=1,
        version=1,
        context=b'{"c": 1}',
        metadata=b'{"m": [1, 2]}',
        text="text",
        voice="voice",
        sentences=None,
        created_at=NOW,
        updated_at=NOW,
    )
    assert await log.get("t", new.id) == session
    assert await log.members(new.id) == [Member(user="alice", role="owner", since=NOW)]


async def test_a_persistent_session_never_expires(log: Log) -> None:
    session = await opened(log, ttl_s=None)
    assert (session.ttl_s, session.expires_at) == (None, None)
    await log.extend({session.id: NOW})
    assert await log.expire_due(now=10**15, limit=10) == []


async def test_create_repeated_after_an_unknown_outcome_makes_one_session(log: Log) -> None:
    new = new_session(ttl_s=60)
    first = await log.create(new, limit=1)
    assert await log.create(new, limit=1) == first
    assert await listed(log) == [new.id]
    assert [event.kind for event in await log.events(after=0, limit=10)] == ["created"]


@pytest.mark.parametrize("stranger", [{"owner": "bob"}, {"tenant": "other"}])
async def test_an_id_of_somebody_elses_is_not_taken_over(log: Log, stranger: dict[str, str]) -> None:
    session = await opened(log)
    with pytest.raises(VersionConflict):
        await log.create(new_session(id=session.id, **stranger), limit=5)
    assert await log.get("t", session.id) == session


async def test_the_limit_counts_live_sessions_of_the_owner(log: Log) -> None:
    sessions = [await log.create(new_session(), limit=2) for _ in range(2)]
    with pytest.raises(LimitReached) as refused:
        await log.create(new_session(), limit=2)
    assert refused.value.limit == 2
    await log.create(new_session(tenant="other"), limit=2)
    await log.create(new_session(owner="bob"), limit=2)
    await log.put_member("t", sessions[0].id, "carol", "writer", now=NOW)
    await log.create(new_session(owner="carol"), limit=1)
    await log.end("t", sessions[0].id, "closed", now=NOW)
    await log.create(new_session(), limit=2)
    assert len(await listed(log)) == 2


async def test_the_limit_holds_against_callers_at_once(log: Log) -> None:
    outcomes = await asyncio.gather(
        *(log.create(new_session(), limit=3) for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Session) for outcome in outcomes) == 3
    assert sum(isinstance(outcome, LimitReached) for outcome in outcomes) == 7


@pytest.mark.parametrize("bad", [{"title": "\ud800"}, {"context": b'{"a":"\xff"}'}, {"metadata": b'"\xff'}])
async def test_a_session_that_cannot_be_stored_is_invalid(log: Log, bad: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        await opened(log, **bad)
    assert await listed(log) == []
    session = await opened(log)
    if "title" not in bad:
        with pytest.raises(Invalid):
            await log.update("t", session.id, Change(**bad), now=NOW, expected_version=None)
    assert await log.get("t", session.id) == session


# -- get, access


async def test_a_session_is_found_in_its_tenant_only(log: Log) -> None:
    session = await opened(log)
    assert await log.get("t", session.id) == session
    assert await log.get("other", session.id) is None
    assert await log.get("t", new_id()) is None


async def test_access_is_for_members_in_their_tenant(log: Log) -> None:
    session = await opened(log)
    changed = await log.put_member("t", session.id, "bob", "reader", now=NOW)
    access = await log.access("t", session.id, "bob")
    assert access is not None
    assert (access.session, access.role) == (changed, "reader")
    assert await log.access("t", session.id, "mallory") is None
    assert await log.access("other", session.id, "alice") is None
    assert await log.access("t", new_id(), "alice") is None


async def test_an_ended_session_is_still_seen_by_its_members(log: Log) -> None:
    session = await opened(log)
    ended = await log.end("t", session.id, "closed", now=NOW + 5)
    assert await log.get("t", session.id) == ended
    access = await log.access("t", session.id, "alice")
    assert access is not None
    assert access.session == ended


@pytest.mark.parametrize(
    "spelled", [str.upper, lambda id: f"{{{id}}}", lambda id: "nowhere", lambda id: "\0"]
)
async def test_an_id_in_any_other_form_is_unknown(log: Log, spelled: Callable[[str], str]) -> None:
    session = await opened(log, ttl_s=60)
    await appended(log, draft(session))
    id = spelled(session.id)
    assert await log.get("t", id) is None
    assert await log.access("t", id, "alice") is None
    assert await log.read(id, after=0, limit=5) == await log.read_before(id, before=5, limit=5) == []
    assert await log.members(id) == []
    assert await log.cursors(id) == []
    assert await log.standings([id]) == {}
    assert await log.append([draft(id)]) == [Refused(code="not_found")]
    assert await log.end("t", id, "closed", now=NOW) is None
    await log.extend({id: NOW + 90_000})
    await log.mark([Mark(session=id, user="alice", read=1)])
    changes = [
        log.update("t", id, Change(title="x"), now=NOW, expected_version=None),
        log.take_over("t", id),
        log.put_member("t", id, "bob", "reader", now=NOW),
        log.remove_member("t", id, "alice", now=NOW),
    ]
    for change in changes:
        with pytest.raises(NotFound):
            await change
    found = await log.get("t", session.id)
    assert found is not None
    assert (found.version, found.head, found.expires_at) == (1, 1, NOW + 60_000)


# -- list


async def test_the_list_is_of_the_users_live_sessions_latest_first(log: Log) -> None:
    old = await opened(log, created_at=NOW - 3)
    new = await opened(log, created_at=NOW - 1)
    busy = await opened(log, created_at=NOW - 2)
    over = await opened(log)
    await log.end("t", over.id, "closed", now=NOW)
    await opened(log, owner="bob")
    await opened(log, tenant="other")
    assert await listed(log) == [new.id, busy.id, old.id]
    await appended(log, draft(old, created_at=NOW + 10))
    assert await listed(log) == [old.id, new.id, busy.id]


async def test_a_listing_says_what_a_list_shows(log: Log) -> None:
    session = await opened(log)
    await log.put_member("t", session.id, "bob", "writer", now=NOW)
    await appended(log, draft(session), draft(session), draft(session, content="ż" * 200, created_at=NOW + 7))
    await log.mark([Mark(session=session.id, user="bob", delivered=2, read=1)])
    found = await log.get("t", session.id)
    assert found is not None
    assert await log.list_for("t", "bob", before=None, limit=5) == [
        Listing(session=found, role="writer", read=1, unread=2, last_at=NOW + 7, preview="ż" * 120)
    ]


async def test_a_session_without_messages_has_no_preview(log: Log) -> None:
    session = await opened(log)
    (listing,) = await log.list_for("t", "alice", before=None, limit=5)
    assert listing == Listing(session=session, role="owner", read=0, unread=0, last_at=NOW, preview="")


async def test_the_list_is_paged_without_hole_or_repeat_even_among_equal_times(log: Log) -> None:
    made = [(await opened(log, created_at=NOW + n // 4)).id for n in range(10)]
    expected = sorted(made, key=lambda id: (made.index(id) // 4, id), reverse=True)
    seen: list[str] = []
    before: tuple[int, str] | None = None
    while page := await log.list_for("t", "alice", before=before, limit=3):
        assert len(page) <= 3
        seen += [listing.session.id for listing in page]
        before = (page[-1].last_at, page[-1].session.id)
    assert seen == expected


@pytest.mark.parametrize("at", [-(10**30), -(2**62), -(10**15), -1, 0, 10**15, 2**62])
async def test_a_list_may_begin_at_any_time_there_is_and_disturbs_no_other(log: Log, at: int) -> None:
    session = await opened(log)

    async def page(before: tuple[int, str] | None) -> list[str]:
        return [row.session.id for row in await log.list_for("t", "alice", before=before, limit=5)]

    first, between, last = await asyncio.gather(page(None), page((at, session.id)), page(None))
    assert first == last == [session.id]
    assert between == ([session.id] if at > NOW else [])


async def test_who_joins_and_leaves_sees_it_in_the_list(log: Log) -> None:
    session = await opened(log)
    await log.put_member("t", session.id, "bob", "reader", now=NOW)
    assert await listed(log, "bob") == [session.id]
    await log.remove_member("t", session.id, "bob", now=NOW)
    assert await listed(log, "bob") == []


# -- update


async def test_an_update_changes_what_is_given_and_counts(log: Log) -> None:
    session = await opened(log, title="old", context=b'{"a": 1}', metadata=b'{"b": 2}')
    changed = await log.update("t", session.id, Change(title="new"), now=NOW + 5, expected_version=1)
    assert (changed.title, changed.context, changed.metadata) == ("new", b'{"a": 1}', b'{"b": 2}')
    assert (changed.version, changed.updated_at, changed.created_at) == (2, NOW + 5, NOW)
    changed = await log.update(
        "t",
        session.id,
        Change(title="", context=b"{}", metadata=b"{}", status="archived"),
        now=NOW + 6,
        expected_version=None,
    )
    assert (changed.title, changed.context, changed.metadata, changed.status) == (
        "",
        b"{}",
        b"{}",
        "archived",
    )
    assert changed.version == 3
    assert await log.get("t", session.id) == changed


async def test_an_update_keeps_head_epoch_and_expiry(log: Log) -> None:
    session = await opened(log, exclusive=True, ttl_s=60)
    await appended(log, draft(session))
    await log.take_over("t", session.id)
    await log.extend({session.id: NOW + 99_000})
    changed = await log.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    assert (changed.head, changed.epoch, changed.expires_at, changed.version) == (1, 2, NOW + 99_000, 2)


async def test_an_update_against_an_old_version_changes_nothing(log: Log) -> None:
    session = await opened(log)
    changed = await log.update("t", session.id, Change(title="first"), now=NOW, expected_version=1)
    with pytest.raises(VersionConflict) as conflict:
        await log.update("t", session.id, Change(title="second"), now=NOW, expected_version=1)
    assert conflict.value.version == 2
    assert await log.get("t", session.id) == changed


async def test_of_updates_at_once_against_one_version_one_wins(log: Log) -> None:
    session = await opened(log)
    outcomes = await asyncio.gather(
        *(log.update("t", session.id, Change(title=f"{n}"), now=NOW, expected_version=1) for n in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Session) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, VersionConflict) for outcome in outcomes) == 7


async def test_what_cannot_be_updated(log: Log) -> None:
    session, over = await opened(log), await opened(log)
    await log.end("t", over.id, "expired", now=NOW)
    for tenant, id in (("other", session.id), ("t", new_id())):
        with pytest.raises(NotFound):
            await log.update(tenant, id, Change(title="x"), now=NOW, expected_version=None)
    with pytest.raises(Ended) as ended:
        await log.update("t", over.id, Change(title="x"), now=NOW, expected_version=9)
    assert ended.value.reason == "expired"


# -- end


@pytest.mark.parametrize("reason", ["closed", "expired", "deleted"])
async def test_a_session_ends_once(log: Log, reason: EndReason) -> None:
    session = await opened(log)
    ended = await log.end("t", session.id, reason, now=NOW + 9)
    assert ended is not None
    assert (ended.ended_at, ended.end_reason, ended.version, ended.updated_at) == (
        NOW + 9,
        reason,
        2,
        NOW + 9,
    )
    assert await log.end("t", session.id, "closed", now=NOW + 10) is None
    assert await log.get("t", session.id) == ended
    assert await listed(log) == []


async def test_ends_at_once_end_once(log: Log) -> None:
    session = await opened(log, ttl_s=1)
    outcomes = await asyncio.gather(
        *(log.end("t", session.id, "closed", now=NOW + n) for n in range(5)),
        *(log.expire_due(now=NOW + 10_000, limit=5) for _ in range(5)),
    )
    assert sum(bool(outcome) for outcome in outcomes) == 1
    kinds = [event.kind for event in await log.events(after=0, limit=50)]
    assert len(kinds) == 2


async def test_what_is_unknown_or_anothers_cannot_be_ended(log: Log) -> None:
    session = await opened(log)
    assert await log.end("other", session.id, "closed", now=NOW) is None
    assert await log.end("t", new_id(), "closed", now=NOW) is None
    assert await log.get("t", session.id) == session


# -- epochs


async def test_taking_over_raises_the_epoch_and_not_the_version(log: Log) -> None:
    session = await opened(log, exclusive=True)
    assert [await log.take_over("t", session.id) for _ in range(3)] == [2, 3, 4]
    found = await log.get("t", session.id)
    assert found is not None
    assert (found.epoch, found.version) == (4, 1)


async def test_each_of_those_who_take_over_at_once_gets_an_epoch_of_its_own(log: Log) -> None:
    session = await opened(log, exclusive=True)
    epochs = await asyncio.gather(*(log.take_over("t", session.id) for _ in range(8)))
    assert sorted(epochs) == list(range(2, 10))


async def test_of_those_who_held_it_under_one_epoch_one_raises_it(log: Log) -> None:
    session = await opened(log, exclusive=True)
    calls = (log.take_over("t", session.id, held=1) for _ in range(8))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [each for each in outcomes if not isinstance(each, TakenOver)] == [2]
    assert {each.epoch for each in outcomes if isinstance(each, TakenOver)} == {2}
    assert await log.take_over("t", session.id, held=2) == 3


async def test_what_cannot_be_taken_over(log: Log) -> None:
    session = await opened(log, exclusive=True)
    with pytest.raises(NotFound):
        await log.take_over("other", session.id)
    await log.end("t", session.id, "closed", now=NOW)
    with pytest.raises(Ended):
        await log.take_over("t", session.id)


# -- expiry


async def test_a_life_is_extended_but_never_shortened(log: Log) -> None:
    one, two = await opened(log, ttl_s=60), await opened(log, ttl_s=60)
    over = await opened(log, ttl_s=60)
    ended = await log.end("t", over.id, "closed", now=NOW)
    await log.extend({one.id: NOW + 90_000, two.id: NOW + 10, over.id: NOW + 90_000, new_id(): NOW})
    expiries = [session.expires_at for id in (one.id, two.id) if (session := await log.get("t", id))]
    assert expiries == [NOW + 90_000, NOW + 60_000]
    assert await log.get("t", over.id) == ended
    found = await log.get("t", one.id)
    assert found is not None
    assert found.version == 1
    await log.extend({})


async def test_sessions_expire_when_they_are_due_and_the_most_overdue_first(log: Log) -> None:
    late, soon, next_ = [await opened(log, ttl_s=ttl_s) for ttl_s in (30, 10, 20)]
    assert await log.expire_due(now=NOW + 9_999, limit=10) == []
    (first,) = await log.expire_due(now=NOW + 20_000, limit=1)
    assert (first.id, first.end_reason, first.ended_at, first.version) == (
        soon.id,
        "expired",
        NOW + 20_000,
        2,
    )
    assert first == await log.get("t", soon.id)
    assert [session.id for session in await log.expire_due(now=NOW + 20_000, limit=10)] == [next_.id]
    assert await log.expire_due(now=NOW + 20_000, limit=10) == []
    assert await listed(log) == [late.id]


async def test_an_extended_session_does_not_expire_at_its_first_time(log: Log) -> None:
    session = await opened(log, ttl_s=10)
    await log.extend({session.id: NOW + 50_000})
    assert await log.expire_due(now=NOW + 49_999, limit=10) == []
    assert [s.id for s in await log.expire_due(now=NOW + 50_000, limit=10)] == [session.id]


async def test_sweepers_at_once_expire_each_session_once(log: Log) -> None:
    made = {(await opened(log, ttl_s=1)).id for _ in range(30)}
    swept = await asyncio.gather(*(log.expire_due(now=NOW + 5_000, limit=7) for _ in range(10)))
    ids = [session.id for page in swept for session in page]
    assert sorted(ids) == sorted(made)
