"""What the live indexes promise: found by connection, user and session; true until expired; taken once."""

import asyncio

from store.live import Live
from store.types import ConnectionEntry, LiveSession, NodeEntry, SessionStats
from tests.store.backends.timed import Timed
from tests.store.making import NOW, entry

# Short, so that a backend with a clock of its own is not waited for long.
LEASE_MS = 300


async def admitted(live: Live, *entries: ConnectionEntry) -> None:
    for each in entries:
        assert await live.admit(each, limit=100, lease_ms=LEASE_MS)


async def found(live: Live, *, user: str = "alice", tenant: str = "t") -> list[str]:
    return [each.id for each in await live.connections_of_user(tenant, user)]


async def attached(live: Live, session: str, tenant: str = "t") -> list[str]:
    return [each.id for each in await live.connections_of_session(tenant, session)]


# -- the indexes


async def test_a_connection_is_found_by_its_id_its_user_and_its_sessions(live: Live) -> None:
    known = entry("c1", sessions=("s1", "s2"), ip="192.0.2.7", port=4711)
    await admitted(live, known)
    assert await live.connection("t", "c1") == known
    assert await live.connections_of_user("t", "alice") == [known]
    assert await live.connections_of_session("t", "s1") == [known]
    assert await live.connections_of_session("t", "s2") == [known]


async def test_what_is_unknown_is_not_found(live: Live) -> None:
    assert await live.connection("t", "c1") is None
    assert await live.connections_of_user("t", "alice") == []
    assert await live.connections_of_session("t", "s1") == []
    assert await live.session("t", "s1") is None


async def test_tenants_do_not_see_each_other(live: Live) -> None:
    await admitted(live, entry("c1", sessions=("s1",)), entry("c1", tenant="u", user="bob", sessions=("s1",)))
    assert await live.connection("t", "c1") == entry("c1", sessions=("s1",))
    assert await live.connection("u", "c1") == entry("c1", tenant="u", user="bob", sessions=("s1",))
    assert (await found(live), await found(live, tenant="u"), await found(live, tenant="u", user="bob")) == (
        ["c1"],
        [],
        ["c1"],
    )
    await live.forget([entry("c1")])
    assert (await attached(live, "s1"), await attached(live, "s1", "u")) == ([], ["c1"])


async def test_connections_are_listed_oldest_first(live: Live) -> None:
    entries = [
        entry(id, since=NOW + since, sessions=("s",))
        for id, since in (("c", 5), ("b", 3), ("d", 3), ("a", 9))
    ]
    await admitted(live, *entries)
    assert await found(live) == ["b", "d", "c", "a"]
    assert await attached(live, "s") == ["b", "d", "c", "a"]


async def test_a_session_that_left_an_entry_leaves_its_index(live: Live) -> None:
    await admitted(live, entry(sessions=("s1", "s2")))
    await live.assert_connections([entry(sessions=("s2", "s3"))], lease_ms=LEASE_MS)
    assert [await attached(live, session) for session in ("s1", "s2", "s3")] == [[], ["c1"], ["c1"]]
    assert await live.connection("t", "c1") == entry(sessions=("s2", "s3"))


async def test_of_two_assertions_the_later_stands(live: Live) -> None:
    later = entry(user="bob", node="n2", sessions=("s2",))
    await live.assert_connections([entry(sessions=("s1",)), later], lease_ms=LEASE_MS)
    assert await live.connection("t", "c1") == later
    assert (await found(live), await found(live, user="bob")) == ([], ["c1"])
    assert (await attached(live, "s1"), await attached(live, "s2")) == ([], ["c1"])


async def test_an_index_that_was_lost_is_asserted_anew(live: Live) -> None:
    entries = [entry("c1", sessions=("s",)), entry("c2", user="bob", sessions=("s",))]
    await live.assert_connections(entries, lease_ms=LEASE_MS)
    assert await live.connections_of_session("t", "s") == entries


async def test_what_is_forgotten_is_gone_from_all_indexes(live: Live) -> None:
    await admitted(live, entry("c1", sessions=("s",)), entry("c2", sessions=("s",)))
    # Whoever forgets need not know to what the connection was attached.
    await live.forget([entry("c1"), entry("unknown")])
    assert (await found(live), await attached(live, "s")) == (["c2"], ["c2"])
    assert await live.connection("t", "c1") is None
    await live.forget([])


# -- leases


async def test_an_entry_that_is_not_asserted_vanishes(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await admitted(live, entry(sessions=("s",)))
    await timed_live.elapse(LEASE_MS)
    assert await live.connection("t", "c1") is None
    assert (await found(live), await attached(live, "s")) == ([], [])


async def test_an_entry_that_is_asserted_stays(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await admitted(live, entry("c1", sessions=("s",)), entry("c2", sessions=("s",)))
    for _ in range(3):
        await timed_live.elapse(LEASE_MS * 2 // 3)
        await live.assert_connections([entry("c1", sessions=("s",))], lease_ms=LEASE_MS)
    assert (await found(live), await attached(live, "s")) == (["c1"], ["c1"])


async def test_a_connection_that_comes_back_after_its_lease_is_indexed_as_it_is_now(
    timed_live: Timed[Live],
) -> None:
    live = timed_live.store
    await admitted(live, entry(user="bob", sessions=("s1",)))
    await timed_live.elapse(LEASE_MS)
    await live.assert_connections([entry(sessions=("s2",))], lease_ms=LEASE_MS)
    assert (await found(live), await found(live, user="bob")) == (["c1"], [])
    assert (await attached(live, "s1"), await attached(live, "s2")) == ([], ["c1"])


# -- admission


async def test_above_the_limit_a_connection_is_refused_and_not_stored(live: Live) -> None:
    assert await live.admit(entry("c1"), limit=2, lease_ms=LEASE_MS)
    assert await live.admit(entry("c2"), limit=2, lease_ms=LEASE_MS)
    assert not await live.admit(entry("c3", sessions=("s",)), limit=2, lease_ms=LEASE_MS)
    assert await live.connection("t", "c3") is None
    assert (await found(live), await attached(live, "s")) == (["c1", "c2"], [])
    assert await live.admit(entry("c4", user="bob"), limit=2, lease_ms=LEASE_MS)
    assert await live.admit(entry("c5", tenant="u"), limit=2, lease_ms=LEASE_MS)


async def test_admitting_a_connection_again_does_not_count_it_twice(live: Live) -> None:
    for _ in range(3):
        assert await live.admit(entry("c1"), limit=1, lease_ms=LEASE_MS)
    assert not await live.admit(entry("c2"), limit=0, lease_ms=LEASE_MS)


async def test_a_place_is_free_again_after_leaving_or_expiring(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    assert await live.admit(entry("c1"), limit=1, lease_ms=LEASE_MS)
    await live.forget([entry("c1")])
    assert await live.admit(entry("c2"), limit=1, lease_ms=LEASE_MS)
    assert not await live.admit(entry("c3"), limit=1, lease_ms=LEASE_MS)
    await timed_live.elapse(LEASE_MS)
    assert await live.admit(entry("c3"), limit=1, lease_ms=LEASE_MS)


async def test_of_many_who_come_at_once_as_many_are_admitted_as_there_is_room(live: Live) -> None:
    answers = await asyncio.gather(
        *(live.admit(entry(f"c{n}"), limit=3, lease_ms=LEASE_MS) for n in range(10))
    )
    assert sum(answers) == 3
    assert len(await found(live)) == 3


# -- sessions and nodes


async def test_the_last_record_of_a_session_stands_until_it_expires(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    record = LiveSession(
        id="s1",
        tenant="t",
        state="active",
        node="n1",
        stats=SessionStats(frames_in=1, rtt_ms=2.5, last_active=NOW),
    )
    earlier = LiveSession(id="s1", tenant="t", state="idle", node="n1", stats=SessionStats())
    other = LiveSession(id="s2", tenant="t", state="connecting", node="n1", stats=SessionStats())
    await live.put_sessions([earlier, other], lease_ms=9_000)
    await live.put_sessions([record], lease_ms=LEASE_MS)
    await live.put_sessions([], lease_ms=LEASE_MS)
    assert await live.session("t", "s2") == other
    assert await live.session("t", "s1") == record
    assert await live.session("u", "s1") is None
    await timed_live.elapse(LEASE_MS)
    assert await live.session("t", "s1") is None


async def test_nodes_are_listed_while_their_lease_runs(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    two, one = (
        NodeEntry(id="n2", url="https://n2", started_at=NOW),
        NodeEntry(id="n1", url=None, started_at=NOW),
    )
    await live.renew_node(two, lease_ms=LEASE_MS)
    await live.renew_node(one, lease_ms=LEASE_MS)
    assert await live.nodes() == [one, two]
    await timed_live.elapse(LEASE_MS * 2 // 3)
    busier = NodeEntry(id="n1", url=None, started_at=NOW, connections=5)
    await live.renew_node(busier, lease_ms=LEASE_MS)
    await timed_live.elapse(LEASE_MS * 2 // 3)
    assert await live.nodes() == [busier]


# -- what is taken once


async def test_what_is_taken_once_is_gone(live: Live) -> None:
    await live.put_once("ticket", [("d1", b"who"), ("d2", b"")], ttl_ms=LEASE_MS)
    assert await live.take_once("ticket", "d1") == b"who"
    assert await live.take_once("ticket", "d1") is None
    assert await live.take_once("ticket", "d2") == b""
    assert await live.take_once("ticket", "d2") is None


async def test_what_has_been_taken_stays_taken(live: Live) -> None:
    assert await live.put_once("resume", [("d1", b"old"), ("d2", b"old")], ttl_ms=LEASE_MS) == set()
    assert await live.take_once("resume", "d1") == b"old"
    renewed = [("d1", b"new"), ("d2", b"new"), ("d3", b"new")]
    assert await live.put_once("resume", renewed, ttl_ms=LEASE_MS) == {"d1"}
    taken = [await live.take_once("resume", digest) for digest in ("d1", "d2", "d3")]
    assert taken == [None, b"new", b"new"]


async def test_what_has_been_taken_stays_taken_for_as_long_as_somebody_renews_it(
    timed_live: Timed[Live],
) -> None:
    live = timed_live.store
    await live.put_once("resume", [("d1", b"who")], ttl_ms=LEASE_MS)
    await live.take_once("resume", "d1")
    for _ in range(3):
        await timed_live.elapse(LEASE_MS * 2 // 3)
        assert await live.put_once("resume", [("d1", b"who")], ttl_ms=LEASE_MS) == {"d1"}
    await timed_live.elapse(LEASE_MS)
    assert await live.put_once("resume", [("d1", b"another")], ttl_ms=LEASE_MS) == set()
    assert await live.take_once("resume", "d1") == b"another"


async def test_of_many_who_take_at_once_one_gets_it(live: Live) -> None:
    await live.put_once("resume", [("d1", b"who")], ttl_ms=LEASE_MS)
    taken = await asyncio.gather(*(live.take_once("resume", "d1") for _ in range(10)))
    assert sorted(taken, key=bool) == [None] * 9 + [b"who"]


async def test_kinds_and_digests_are_apart_and_the_last_value_stands(live: Live) -> None:
    await live.put_once("ticket", [("d1", b"ticket")], ttl_ms=LEASE_MS)
    await live.put_once("resume", [("d1", b"old")], ttl_ms=LEASE_MS)
    await live.put_once("resume", [("d1", b"new")], ttl_ms=LEASE_MS)
    assert await live.take_once("resume", "d2") is None
    assert await live.take_once("resume", "d1") == b"new"
    assert await live.take_once("ticket", "d1") == b"ticket"


async def test_what_is_not_taken_in_time_is_gone(timed_live: Timed[Live]) -> None:
    await timed_live.store.put_once("ticket", [("d1", b"who")], ttl_ms=LEASE_MS)
    await timed_live.elapse(LEASE_MS)
    assert await timed_live.store.take_once("ticket", "d1") is None


async def test_live_answers_a_ping_and_closes_twice(live: Live) -> None:
    await live.ping()
    await live.close()
    await live.close()
