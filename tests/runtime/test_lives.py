"""Resume, takeover, expiry, revocation, limits: what happens to sessions and connections over time."""

import asyncio
from pathlib import Path

from gateway.protocol.limits import Limits
from tests.runtime.world import world
from tests.waiting import until


async def test_a_resume_takes_the_attachments_up_from_the_last_seen(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = w.connect()
        welcome = await alice.hello()
        session = await alice.open()
        for n in range(5):
            await alice.send(session, f"m{n}")
        await alice.ask("heartbeat", ts=1, seen={session: 3})
        alice.vanish()
        again = w.connect()
        resumed = await again.hello(resume=welcome["resume"])
        assert resumed["resumed"] is True
        assert resumed["resume"] != welcome["resume"]
        attached = await again.next("attached")
        assert (attached["session"], attached["since"]) == (session, 3)
        await until(lambda: again.messages(session) == [4, 5])


async def test_the_clients_own_cursor_wins_over_what_was_last_seen(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = w.connect()
        welcome = await alice.hello()
        session = await alice.open()
        for n in range(5):
            await alice.send(session, f"m{n}")
        alice.vanish()
        again = w.connect()
        await again.hello(resume=welcome["resume"], attach=[{"session": session, "since": 4}])
        assert (await again.next("attached"))["since"] == 4
        await until(lambda: again.messages(session) == [5])


async def test_a_resume_token_is_good_once_and_only_for_its_user(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = w.connect()
        token = (await alice.hello())["resume"]
        await alice.open()
        alice.vanish()
        first, second = w.connect(), w.connect()
        answers = await asyncio.gather(first.hello(resume=token), second.hello(resume=token))
        assert sorted(answer["resumed"] for answer in answers) == [False, True]
        eve = w.connect()
        bob = w.connect()
        stolen = (await bob.hello("bob"))["resume"]
        assert (await eve.hello("eve", resume=stolen))["resumed"] is False
        assert (await w.connect().hello(resume="nonsense"))["resumed"] is False


async def test_a_resume_while_the_old_connection_still_lives_overlaps_without_a_leave(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        owner = await w.client("olga")
        session = await owner.open()
        await w.join(owner, session, "alice")
        old = w.connect()
        token = (await old.hello("alice"))["resume"]
        await old.ask("attach", session=session)
        new = w.connect()
        assert (await new.hello("alice", resume=token))["resumed"] is True
        await new.next("live")
        await owner.send(session, "both")
        await until(lambda: old.messages(session) == [1] and new.messages(session) == [1])
        old.vanish(1000)
        await owner.send(session, "one")
        await until(lambda: new.messages(session) == [1, 2])
        # The old one's departure must not have made its token good again.
        assert (await w.connect().hello("alice", resume=token))["resumed"] is False


async def test_an_exclusive_session_is_taken_over_and_the_older_attachment_can_write_no_more(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        first = await w.client()
        session = await first.open(exclusive=True)
        await first.send(session, "mine")
        second = await w.client()
        attached = await second.ask("attach", session=session, since=0)
        assert attached["epoch"] > 1
        event = await first.next("session")
        assert event["event"] == "superseded"
        assert (await first.ask("send", session=session, content="still mine"))["code"] == "not_attached"
        assert (await second.send(session, "now mine"))["seq"] == 2


async def test_a_stale_epoch_is_refused_by_the_log_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        first = await w.client()
        session = await first.open(exclusive=True)
        await w.node.log.take_over("default", session)  # somewhere else, and no hint of it came
        answer = await first.ask("send", session=session, content="zombie")
        assert (answer["type"], answer["code"]) == ("error", "superseded")


async def test_a_temporary_session_expires_once_and_tells_its_attachments(tmp_path: Path) -> None:
    async with world(tmp_path, sweep_s=0.05) as w:
        alice = await w.client()
        session = await alice.open(ttl=1)
        event = await alice.next("session")
        assert event["event"] == "expired"
        assert (await alice.ask("attach", session=session))["code"] == "expired"
        kinds = [event.kind for event in await w.node.log.events(after=0, limit=100)]
        assert kinds.count("expired") == 1


async def test_heartbeats_keep_a_temporary_session_alive(tmp_path: Path) -> None:
    async with world(tmp_path, sweep_s=0.05) as w:
        alice = await w.client()
        session = await alice.open(ttl=1)
        loop = asyncio.get_running_loop()
        end = loop.time() + 2.5
        while loop.time() < end:
            await alice.ask("heartbeat", ts=1)
            assert (await alice.ask("history", session=session))["type"] == "history"
        assert (await alice.send(session, "still here"))["seq"] == 1
        event = await alice.next("session")
        assert event["event"] == "expired"


async def test_a_revocation_closes_the_users_sockets_and_refuses_the_token(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        bob = await w.client("bob")
        await w.node.revoke("default", "alice")
        assert await alice.closed() == 4500
        assert bob.outlet.closed is None
        assert (await w.client("alice")).outlet.closed is None  # a newer token


async def test_a_bad_token_is_told_and_closed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        client = w.connect()
        client.say("hello", token="not a token")
        assert (await client.next("error"))["code"] == "unauthenticated"
        assert await client.closed() == 4500
        nobody = w.connect()
        nobody.say("hello")
        assert await nobody.closed() == 4500


async def test_a_ticket_opens_one_connection(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        identity = await w.tokens.verify(w.tokens.mint("alice"))
        ticket, _ = await w.tickets.issue(identity)
        first = w.connect()
        first.say("hello", ticket=ticket)
        assert (await first.next("welcome"))["user"] == "alice"
        second = w.connect()
        second.say("hello", ticket=ticket)
        assert await second.closed() == 4500


async def test_no_hello_in_time_closes(tmp_path: Path) -> None:
    async with world(tmp_path, hello_timeout_s=0.05) as w:
        client = w.connect()
        await until(lambda: client.connection.check(w.clock.monotonic()) == float("inf"))
        assert await client.closed() == 4501


async def test_one_user_has_a_bounded_number_of_connections(tmp_path: Path) -> None:
    async with world(tmp_path, connections_per_user=2) as w:
        await w.client()
        second = await w.client()
        third = w.connect()
        assert (await third.hello())["code"] == "limit_reached"
        assert await third.closed() == 4005
        second.vanish()

        async def free() -> bool:
            return len(await w.node.live.connections_of_user("default", "alice")) == 1

        await until(free)
        await w.client()


async def test_the_101st_session_and_the_65th_attachment_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path, Limits(attachments=3), sessions_per_user=4) as w:
        alice = await w.client()
        sessions = [await alice.open() for _ in range(3)]
        assert (await alice.ask("open"))["code"] == "limit_reached"
        await alice.ask("detach", session=sessions[0])
        await alice.open()
        await alice.ask("detach", session=sessions[1])
        assert (await alice.ask("open"))["code"] == "limit_reached"
        assert (await alice.ask("attach", session=sessions[0]))["type"] == "attached"
        assert (await alice.ask("attach", session=sessions[1]))["code"] == "limit_reached"


async def test_an_expiring_token_is_told_refreshed_or_closed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = w.connect()
        alice.say("hello", token=w.tokens.mint("alice", ttl_s=30))
        await alice.next("welcome")
        now = w.clock.monotonic()
        alice.connection.check(now)
        assert 0 < (await alice.next("expiring"))["in_ms"] <= 30_000
        assert (await alice.ask("refresh", token=w.tokens.mint("bob")))["code"] == "forbidden"
        assert (await alice.ask("refresh", token=w.tokens.mint("alice")))["type"] == "refreshed"
        assert alice.connection.check(now + 60) > now + 60
        assert alice.outlet.closed is None
        alice.connection.check(now + 3600 - 30)
        alice.connection.check(now + 3600 + 30)
        assert await alice.closed() == 4004


async def test_a_slow_reader_lags_and_gets_everything_when_it_reads_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        slow = await w.client()
        await slow.ask("attach", session=session, since=0)
        await slow.next("live")
        slow.outlet.room = 3
        await asyncio.gather(*(alice.send(session, f"m{n}", id=f"c{n}") for n in range(90)))
        assert slow.messages(session) == [1, 2, 3]
        while len(slow.messages(session)) < 90:
            slow.outlet.room = 20
            slow.outlet.lagging = False
            slow.connection.on_drained()
            await until(lambda: slow.outlet.lagging or len(slow.messages(session)) == 90)
        assert slow.messages(session) == list(range(1, 91))


async def test_lost_hints_are_found_by_comparing_heads(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        await alice.send(session, "seen")
        room = w.node.hub.rooms[session]
        receive = w.node.hub.receive
        deaf: list[bytes] = []
        w.node.publisher.message = lambda *_: deaf.append(b"")  # type: ignore[method-assign]
        await alice.send(session, "lost")
        await alice.send(session, "lost too")
        assert len(deaf) == 2
        assert room.relay.head == 1
        await w.node.comparison.compare()
        await until(lambda: alice.messages(session) == [1, 2, 3])
        assert receive is not None


async def test_a_hint_behind_a_hole_brings_the_missing_from_the_log(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        publish = w.node.publisher.message
        w.node.publisher.message = lambda *_: None  # type: ignore[method-assign]
        await alice.send(session, "lost")
        w.node.publisher.message = publish  # type: ignore[method-assign]
        await alice.send(session, "heard")
        await until(lambda: alice.messages(session) == [1, 2], within=1.0)


async def test_an_ended_session_is_read_to_its_end_by_who_lagged(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        slow = await w.client()
        await slow.ask("attach", session=session, since=0)
        slow.outlet.lagging = True
        for n in range(5):
            await alice.send(session, f"m{n}")
        await alice.ask("close", session=session)
        assert slow.messages(session) == []
        slow.outlet.lagging = False
        slow.connection.on_drained()
        event = await slow.next("session")
        assert event["event"] == "closed"
        assert slow.messages(session) == [1, 2, 3, 4, 5]
        assert not slow.connection.attachments


async def test_a_stopping_node_answers_what_is_in_flight_before_it_sends_everybody_away(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        for n in range(50):
            alice.say("send", id=f"c{n}", session=session, content=f"m{n}")
        await w.node.drain()
        assert await alice.closed() == 4000
        assert sorted(f["seq"] for f in alice.outlet.frames if f["type"] == "ack") == list(range(1, 51))


async def test_a_user_at_the_limit_may_come_back_at_once(tmp_path: Path) -> None:
    async with world(tmp_path, connections_per_user=2) as w:
        await w.client()
        for _ in range(10):
            (await w.client()).vanish()
        last = await w.client()
        assert (await w.connect().hello())["code"] == "limit_reached"
        assert last.outlet.closed is None


async def test_a_connection_past_its_lifetime_is_asked_to_move_and_closed_at_the_deadline(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, connection_lifetime_s=1000.0, drain_s=5.0) as w:
        alice = w.connect()
        alice.say("hello", token=w.tokens.mint("alice", ttl_s=86_400))
        token = (await alice.next("welcome"))["resume"]
        session = await alice.open()
        now = w.clock.monotonic()
        assert alice.connection.check(now + 890) <= now + 1101
        assert alice.outlet.closed is None
        alice.connection.check(now + 1101)
        migrate = await alice.next("migrate")
        assert (migrate["reason"], migrate["deadline_ms"], migrate["url"]) == ("lifetime", 5000, None)
        assert (await alice.send(session, "still served"))["seq"] == 1
        moved = w.connect()
        assert (await moved.hello(resume=token))["resumed"] is True
        assert (await moved.next("live"))["session"] == session
        alice.connection.check(now + 1101 + 6)
        assert await alice.closed() == 4000


async def test_a_hello_with_an_id_is_answered_with_that_id(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        good, bad = w.connect(), w.connect()
        good.say("hello", id="h-1", token=w.tokens.mint("alice"))
        assert (await good.next("welcome"))["id"] == "h-1"
        bad.say("hello", id="h-2", token="no token")
        assert (await bad.next("error"))["id"] == "h-2"
