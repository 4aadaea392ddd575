"""What the live indexes promise: found by connection, user and session; true until expired; taken once."""

import asyncio

from store.live import Live
from store.types import ConnectionEntry, LiveSession, NodeEntry, SessionStats
from tests.store.backends.timed import Timed
from tests.store.making import NOW, entry
from tests.waiting import turns

# Long: time passes only where a test says so.
LEASE_MS = 30_000


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


# -- who is in a session


async def test_a_user_comes_into_a_session_with_the_first_of_their_connections(live: Live) -> None:
    both = [entry("c1", sessions=("s1", "s2")), entry("c2", sessions=("s1",))]
    bob = entry("c3", user="bob", sessions=("s1",))
    arrivals = await live.assert_connections([*both, bob], lease_ms=LEASE_MS)
    assert len(arrivals) == 3
    assert arrivals - {("c1", "s1"), ("c2", "s1")} == {("c1", "s2"), ("c3", "s1")}
    # To renew is not to come, and neither is to come with one more.
    later = [*both, bob, entry("c4", sessions=("s1", "s3"))]
    assert await live.assert_connections(later, lease_ms=LEASE_MS) == {("c4", "s3")}
    elsewhere = entry("c1", tenant="u", sessions=("s1",))
    assert await live.assert_connections([elsewhere], lease_ms=LEASE_MS) == {("c1", "s1")}


async def test_of_connections_that_are_asserted_at_once_one_brings_their_user(live: Live) -> None:
    calls = [live.assert_connections([entry(f"c{n}", sessions=("s",))], lease_ms=LEASE_MS) for n in range(10)]
    arrivals = await asyncio.gather(*calls)
    assert sum(map(len, arrivals)) == 1
    assert all(each <= {(f"c{n}", "s")} for n, each in enumerate(arrivals))


async def test_a_user_leaves_a_session_once_and_not_before_their_last_connection(live: Live) -> None:
    await live.assert_connections(
        [entry("c1", sessions=("s",)), entry("c2", sessions=("s",))], lease_ms=LEASE_MS
    )
    await live.forget([entry("c1")])
    assert not await live.leave("t", "s", "alice")
    await live.assert_connections([entry("c2")], lease_ms=LEASE_MS)
    assert not await live.leave("t", "other", "alice")
    assert sorted(await asyncio.gather(*(live.leave("t", "s", "alice") for _ in range(5)))) == [False] * 4 + [
        True
    ]
    assert await live.assert_connections([entry("c2", sessions=("s",))], lease_ms=LEASE_MS) == {("c2", "s")}


async def test_who_only_moves_neither_leaves_nor_comes(live: Live) -> None:
    await live.assert_connections([entry("old", sessions=("s",))], lease_ms=LEASE_MS)
    await live.forget([entry("old", sessions=("s",))])
    new = entry("new", node="n2", sessions=("s",))
    assert await live.assert_connections([new], lease_ms=LEASE_MS) == set()
    assert not await live.leave("t", "s", "alice")


async def test_who_was_forgotten_by_time_comes_anew(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await live.assert_connections([entry(sessions=("s",))], lease_ms=LEASE_MS)
    await timed_live.elapse(LEASE_MS)
    assert not await live.leave("t", "s", "alice")
    assert await live.assert_connections([entry(sessions=("s",))], lease_ms=LEASE_MS) == {("c1", "s")}


# -- many, and many at once


async def test_thousands_are_asserted_and_forgotten_in_one_call(live: Live) -> None:
    entries = [entry(f"c{n}", user=f"u{n % 7}", sessions=("s", f"s{n % 50}")) for n in range(1200)]
    await live.assert_connections(entries, lease_ms=LEASE_MS)
    assert len(await live.connections_of_session("t", "s")) == 1200
    assert len(await live.connections_of_session("t", "s3")) == 24
    await live.forget(entries[:1100])
    assert await live.connections_of_session("t", "s") == sorted(
        entries[1100:], key=lambda each: (each.since, each.id)
    )
    assert await live.connection("t", "c5") is None


async def test_calls_under_way_together_take_effect_in_their_order(live: Live) -> None:
    many = [entry(f"c{n}", sessions=("s",)) for n in range(600)]
    await asyncio.gather(
        live.assert_connections(many, lease_ms=LEASE_MS),
        live.forget([entry("c599", sessions=("s",))]),
        live.assert_connections([entry("c1", sessions=("s2",))], lease_ms=LEASE_MS),
        live.assert_connections([entry("c1", sessions=("s2", "s"))], lease_ms=LEASE_MS),
        live.assert_connections([entry("c1", sessions=("s3",))], lease_ms=LEASE_MS),
        live.forget([entry("c2")]),
        live.assert_connections([entry("c2", sessions=("s3",))], lease_ms=LEASE_MS),
    )
    assert set(await attached(live, "s")) == {each.id for each in many} - {"c1", "c2", "c599"}
    assert (await attached(live, "s2"), await attached(live, "s3")) == ([], ["c1", "c2"])
    assert await live.connection("t", "c599") is None


async def test_a_cancelled_call_does_not_disturb_those_it_was_made_with(live: Live) -> None:
    calls = [
        asyncio.ensure_future(live.assert_connections([entry(f"c{n}", sessions=("s",))], lease_ms=LEASE_MS))
        for n in range(20)
    ]
    reads = [asyncio.ensure_future(live.connection("t", f"c{n}")) for n in range(20)]
    await turns(1)
    for call in (*calls[::2], *reads[::2]):
        call.cancel()
    await asyncio.gather(*calls, *reads, return_exceptions=True)
    assert sum(call.cancelled() for call in calls) <= 10
    for n, read in enumerate(reads):
        if not read.cancelled():
            assert read.result() in (None, entry(f"c{n}", sessions=("s",)))
    for n in range(1, 20, 2):
        assert await live.connection("t", f"c{n}") == entry(f"c{n}", sessions=("s",))


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
    await live.put_sessions([earlier, other], lease_ms=3 * LEASE_MS)
    await live.put_sessions([record], lease_ms=LEASE_MS)
    await live.put_sessions([], lease_ms=LEASE_MS)
    assert await live.session("t", "s2") == other
    assert await live.session("t", "s1") == record
    assert await live.session("u", "s1") is None
    await timed_live.elapse(LEASE_MS)
    assert await live.session("t", "s1") is None


async def test_a_session_is_what_its_nodes_make_of_it_together(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    quiet = SessionStats(frames_in=1, bytes_out=10, rtt_ms=5.0, last_active=NOW)
    busy = SessionStats(frames_in=2, frames_out=3, bytes_in=4, bytes_out=30, last_active=NOW + 1)
    ones = LiveSession(id="s1", tenant="t", state="disconnecting", node="n1", stats=quiet)
    twos = LiveSession(id="s1", tenant="t", state="active", node="n2", stats=busy)
    await live.put_sessions([ones], lease_ms=3 * LEASE_MS)
    await live.put_sessions([twos], lease_ms=LEASE_MS)
    together = SessionStats(
        frames_in=3, frames_out=3, bytes_in=4, bytes_out=40, rtt_ms=5.0, last_active=NOW + 1
    )
    assert await live.session("t", "s1") == LiveSession(
        id="s1", tenant="t", state="active", node="n2", stats=together
    )
    await timed_live.elapse(LEASE_MS)
    assert await live.session("t", "s1") == ones
    closed = LiveSession(id="s1", tenant="t", state="closed", node="n1", stats=quiet)
    await live.put_sessions([twos, closed], lease_ms=LEASE_MS)
    told = await live.session("t", "s1")
    assert told is not None
    assert told.state == "closed"


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


async def test_what_is_renewed_lives_for_another_while_and_what_is_not_there_is_told(
    timed_live: Timed[Live],
) -> None:
    live = timed_live.store
    await live.put_once("resume", [("d1", b"who: 1"), ("d2", b"who: 2"), ("d3", b"3")], ttl_ms=LEASE_MS)
    await live.put_once("ticket", [("d4", b"who: 4")], ttl_ms=LEASE_MS)
    await live.take_once("resume", "d3")
    for _ in range(2):
        await timed_live.elapse(LEASE_MS * 2 // 3)
        renewed = [("d1", b": 1"), ("d2", b": 9"), ("d3", b"3"), ("d4", b": 4")]
        assert await live.renew_once("resume", renewed, ttl_ms=LEASE_MS) == ({"d3"}, {"d2", "d4"})
    assert await live.take_once("resume", "d1") == b"who: 1"
    # And what has been taken stays taken for as long.
    assert await live.renew_once("resume", [("d1", b": 1")], ttl_ms=LEASE_MS) == ({"d1"}, set())
    assert await live.put_once("resume", [("d3", b"again")], ttl_ms=LEASE_MS) == {"d3"}
    await timed_live.elapse(LEASE_MS)
    assert await live.renew_once("resume", [("d1", b": 1")], ttl_ms=LEASE_MS) == (set(), {"d1"})
    assert await live.renew_once("resume", [], ttl_ms=LEASE_MS) == (set(), set())


async def test_thousands_are_put_and_renewed_in_one_call(live: Live) -> None:
    many = [(f"d{n}", f"value {n}".encode()) for n in range(600)]
    assert await live.put_once("resume", many[:500], ttl_ms=LEASE_MS) == set()
    for digest, _ in many[100:400:100]:
        await live.take_once("resume", digest)
    taken, lost = await live.renew_once("resume", many, ttl_ms=LEASE_MS)
    assert taken == {"d100", "d200", "d300"}
    assert lost == {digest for digest, _ in many[500:]}


# -- what is made ready


async def test_an_entry_that_was_made_ready_is_asserted_as_any_other(live: Live) -> None:
    plain = [
        entry("c1", sessions=("s1", "s2"), ip="192.0.2.7", port=4711),
        entry("c2"),
        entry("c3", user="bob"),
    ]
    ready = [live.prepared(each) for each in plain]
    for _ in range(2):
        await live.assert_connections([*ready[:2], plain[2]], lease_ms=LEASE_MS)
        assert await found_of(live, "c1", "c2", "c3") == plain
    assert await attached(live, "s1") == ["c1"]
    assert await live.assert_connections([live.prepared(ready[0])], lease_ms=LEASE_MS) == set()
    changed = live.prepared(entry("c1", sessions=("s2", "s3")))
    assert await live.assert_connections([changed], lease_ms=LEASE_MS) == {("c1", "s3")}
    assert (await attached(live, "s1"), await attached(live, "s3")) == ([], ["c1"])
    await live.forget(ready)
    assert await found_of(live, "c1", "c2", "c3") == [None] * 3
    assert await live.admit(ready[1], limit=1, lease_ms=LEASE_MS)
    assert await live.connection("t", "c2") == plain[1]


async def found_of(live: Live, *ids: str) -> list[ConnectionEntry | None]:
    return [await live.connection("t", each) for each in ids]
