"""What grows, what is left behind, what is passed round a limit."""

from pathlib import Path
from typing import Any

from gateway.runtime.connection import BACKLOG_FRAMES
from store.errors import Unavailable
from store.live import Arrival
from store.types import Mark
from tests.runtime.world import Client, world
from tests.waiting import turns, until


async def test_what_others_do_does_not_pile_up_at_a_reader_that_lags(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        slow = await w.client()
        await slow.ask("attach", session=session, since=0)
        await slow.next("live")
        await alice.send(session, "one")
        await until(lambda: slow.messages(session) == [1])
        slow.outlet.lagging = True
        before = len(slow.outlet.frames)
        for n in range(50):
            await alice.ask("update", session=session, title=f"title {n}", context={"large": "x" * 1000})
            await alice.ask("read", session=session, seq=1)
        await turns(3)
        assert len(slow.outlet.frames) == before
        # When it reads again it learns of the latest, whose version says that there were others.
        slow.outlet.lagging = False
        slow.connection.on_drained()
        event = await slow.next("session")
        assert event["changes"]["title"] == "title 49"


async def test_a_connection_that_was_taken_over_does_not_stay_beside_the_limit(tmp_path: Path) -> None:
    async with world(tmp_path, connections_per_user=1, drain_s=30.0) as w:
        chain: list[Client] = []
        token = None
        for _ in range(4):
            client = w.connect()
            welcome = await client.hello(resume=token) if token else await client.hello()
            assert welcome["type"] == "welcome"
            token = welcome["resume"]
            chain.append(client)
        # Two overlap while a client moves; a third is one too many.
        assert await chain[0].closed() == 4000
        assert await chain[1].closed() == 4000
        assert chain[2].outlet.closed is None
        assert chain[3].outlet.closed is None
        # And the one that was left behind has the time of a move, not for ever.
        chain[2].connection.check(w.clock.monotonic() + 31)
        assert await chain[2].closed() == 4000


async def test_a_connection_without_heartbeats_stays_in_the_indexes(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        asserted: list[str] = []
        keep = w.node.live.assert_connections

        async def watched(entries: Any, *, lease_ms: int) -> set[Arrival]:
            asserted.extend(entry.id for entry in entries)
            return await keep(entries, lease_ms=lease_ms)

        w.node.live.assert_connections = watched  # type: ignore[method-assign]
        due = alice.connection.check(w.clock.monotonic())
        assert due < w.clock.monotonic() + w.node.leases.lease_ms / 1000 - 10.0
        alice.connection.check(due)
        await until(lambda: asserted == [alice.connection.id])


async def test_a_refresh_does_not_call_a_move_off(tmp_path: Path) -> None:
    async with world(tmp_path, drain_s=10.0) as w:
        alice = await w.client()
        now = w.clock.monotonic()
        alice.connection.migrate("drain", now)
        await alice.next("migrate")
        assert (await alice.ask("refresh", token=w.tokens.mint("alice")))["type"] == "refreshed"
        alice.connection.check(now + 11)
        assert await alice.closed() == 4000


async def test_a_token_that_expires_during_a_move_is_still_told_and_closed_as_expired(tmp_path: Path) -> None:
    async with world(tmp_path, drain_s=600.0) as w:
        alice = w.connect()
        alice.say("hello", token=w.tokens.mint("alice", ttl_s=90))
        await alice.next("welcome")
        now = w.clock.monotonic()
        alice.connection.migrate("drain", now)
        alice.connection.check(now + 40)
        await alice.next("expiring")
        alice.connection.check(now + 90 + 26)
        assert await alice.closed() == 4004


async def test_states_of_ended_sessions_are_written_once_and_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        await w.node.sweeper.sweep()
        session = ""
        for _ in range(5):
            session = await alice.open()
            await w.node.sweeper.sweep()
            await alice.ask("close", session=session)
            await until(lambda: not alice.connection.attachments)
        await w.node.sweeper.sweep()
        record = await w.node.live.session("default", session)
        assert record is not None
        assert record.state == "closed"
        told: dict[str, str] = getattr(w.node.sweeper, "_told", {})
        assert not told


async def test_a_live_store_that_is_away_does_not_hold_up_the_expiry_of_sessions(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        for _ in range(5):
            await alice.open()
        asked = 0

        async def away(*_: Any, **__: Any) -> None:
            nonlocal asked
            asked += 1
            raise Unavailable("away")

        w.node.live.put_sessions = away  # type: ignore[method-assign]
        await w.node.sweeper.sweep()
        assert asked == 1  # a time-out for each session would take longer than sessions live


async def test_marks_reach_the_log_while_the_live_store_is_away(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        await alice.send(session, "one")

        async def away(*_: Any, **__: Any) -> None:
            raise Unavailable("away")

        w.node.live.assert_connections = away  # type: ignore[method-assign, assignment]
        w.node.live.forget = away  # type: ignore[method-assign]
        other = await w.client()
        other.vanish()
        await alice.ask("heartbeat", ts=1, seen={session: 1})

        async def stored() -> bool:
            return any(cursor.delivered == 1 for cursor in await w.node.log.cursors(session))

        await until(stored)


async def test_a_read_marker_is_not_lost_with_the_write_that_failed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        leases = w.node.leases
        mark = w.node.log.mark
        stored: list[Mark] = []

        async def fails(marks: Any) -> None:
            # While it fails, the next one comes.
            leases.mark(Mark(session="s", user="u", delivered=7))
            w.node.log.mark = works  # type: ignore[method-assign]
            raise Unavailable("away")

        async def works(marks: Any) -> None:
            stored.extend(marks)

        w.node.log.mark = fails  # type: ignore[method-assign]
        leases.mark(Mark(session="s", user="u", read=5))
        await until(lambda: bool(stored))
        assert stored == [Mark(session="s", user="u", delivered=7, read=5)]
        w.node.log.mark = mark  # type: ignore[method-assign]


async def test_every_sender_of_a_group_is_answered_even_after_a_bug_in_the_log(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        append = w.node.log.append

        async def broken(drafts: Any) -> Any:
            w.node.log.append = append  # type: ignore[method-assign]
            raise TypeError("a bug")

        w.node.log.append = broken  # type: ignore[method-assign]
        answer = await alice.ask("send", session=session, content="one", id="c-1")
        assert (answer["type"], answer["code"], answer["retryable"]) == ("error", "unavailable", True)
        assert (await alice.send(session, "one", id="c-1"))["seq"] == 1
        assert w.node.committer.waiting == 0


async def test_a_full_session_may_still_change_the_roles_of_its_members(tmp_path: Path) -> None:
    from gateway.runtime import sessions

    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        await w.join(alice, session, "bob")
        most, sessions.MEMBERS_LIMIT = sessions.MEMBERS_LIMIT, 2  # type: ignore[misc]
        try:
            await w.join(alice, session, "bob", "reader")
        finally:
            sessions.MEMBERS_LIMIT = most  # type: ignore[misc]


async def test_a_channel_is_forgotten_even_when_the_bus_is_away(tmp_path: Path) -> None:
    async with world(tmp_path) as w:

        async def away(_: str) -> None:
            raise Unavailable("away")

        channels = w.node.hub._channels
        known = len(channels._channels)
        channels._bus.unsubscribe = away  # type: ignore[method-assign, assignment]
        await channels.acquire("s:gone")
        channels.release("s:gone")
        await until(lambda: len(channels._channels) == known)


async def test_a_replay_that_met_a_bug_goes_on_and_does_not_call_itself_live(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        for n in range(3):
            await alice.send(session, f"m{n}")
        await alice.ask("detach", session=session)
        w.node.hub.close_empty(w.clock.monotonic() + 1)
        read = w.node.log.read

        async def broken(*_: Any, **__: Any) -> Any:
            w.node.log.read = read  # type: ignore[method-assign]
            raise TypeError("a bug")

        w.node.log.read = broken  # type: ignore[method-assign]
        late = await w.client()
        await late.ask("attach", session=session, since=0)
        await until(lambda: w.node.log.read is read)
        await turns(3)
        assert late.connection.attachments[session].replay.want(1) == (0, 1)
        assert not [f for f in late.outlet.frames if f["type"] == "live"]


async def test_who_asks_again_for_the_end_of_a_session_has_it_told_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        ended = w.node.publisher.ended
        w.node.publisher.ended = lambda *_: None  # type: ignore[method-assign]
        await alice.ask("close", session=session)
        w.node.publisher.ended = ended  # type: ignore[method-assign]
        assert session in alice.connection.attachments
        await alice.ask("close", session=session)
        await until(lambda: session not in alice.connection.attachments)
        kinds = [event.kind for event in await w.node.log.events(after=0, limit=100)]
        assert kinds.count("closed") == 1
        assert len([f for f in alice.outlet.frames if f.get("event") == "closed"]) == 1


async def test_holes_of_many_rooms_are_not_filled_all_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        sessions = [await alice.open() for _ in range(20)]
        publish, w.node.publisher.message = w.node.publisher.message, lambda *_: None  # type: ignore[method-assign]
        for session in sessions:
            await alice.send(session, "lost")
        w.node.publisher.message = publish  # type: ignore[method-assign]
        read, now, most = w.node.log.read, 0, 0

        async def counted(session: str, *, after: int, limit: int) -> Any:
            nonlocal now, most
            now += 1
            most = max(most, now)
            try:
                return await read(session, after=after, limit=limit)
            finally:
                now -= 1

        w.node.log.read = counted  # type: ignore[method-assign]
        await w.node.comparison.compare()
        await until(lambda: all(alice.messages(session) == [1] for session in sessions))
        assert 1 <= most <= 8


async def test_whoever_asks_for_more_than_may_wait_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        for n in range(BACKLOG_FRAMES + 2):
            alice.say("history", id=f"h{n}", session=session, limit=1)  # none is answered in this turn
        refused = await alice.next("error")
        assert (refused["code"], refused["id"]) == ("rate_limited", f"h{BACKLOG_FRAMES + 1}")
        assert refused["retry_after_ms"] > 0
