"""Between two awaits of one request something else happens: an end, a takeover, a removal, a revocation."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.protocol.limits import Limits
from store.types import Access
from tests.runtime.world import Client, World, world
from tests.waiting import turns, until


class HeldLook:
    """Holds back the result of the first reading of a right: what it shows is old by the time it is used."""

    def __init__(self, w: World) -> None:
        self._read = w.node.sessions.live_access
        self.calls = 0
        self.has_read = asyncio.Event()
        self.go = asyncio.Event()
        w.node.sessions.live_access = self  # type: ignore[method-assign]

    async def __call__(self, tenant: str, user: str, session: str) -> Access:
        access = await self._read(tenant, user, session)
        self.calls += 1
        if self.calls == 1:
            self.has_read.set()
            await self.go.wait()
        return access


async def answer_of(client: Client, request: str) -> dict[str, Any]:
    while True:
        frame = await client.next()
        if frame.get("id") == request:
            return frame


@pytest.mark.parametrize("is_hosted", [True, False])
async def test_a_session_that_ends_while_somebody_attaches_is_ended_for_them_too(
    tmp_path: Path, is_hosted: bool
) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        if not is_hosted:
            await alice.ask("detach", session=session)
            w.node.hub.close_empty(w.clock.monotonic() + 1)
        late = await w.client()
        look = HeldLook(w)
        late.say("attach", session=session, id="late")
        await look.has_read.wait()
        assert alice.connection.identity is not None
        await w.node.sessions.end(alice.connection.identity, session)
        await turns(3)
        look.go.set()
        assert (await answer_of(late, "late"))["code"] == "closed"
        assert session not in w.node.hub.rooms
        assert not late.connection.attachments


async def test_a_member_removed_while_attaching_hears_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        await w.join(alice, session, "bob")
        bob = await w.client("bob")
        look = HeldLook(w)
        bob.say("attach", session=session, id="late")
        await look.has_read.wait()
        assert alice.connection.identity is not None
        await w.node.sessions.remove_member(alice.connection.identity, session, "bob")
        await turns(3)
        look.go.set()
        assert (await answer_of(bob, "late"))["code"] == "not_found"
        await alice.send(session, "secret")
        assert bob.messages(session) == []


async def test_a_role_changed_while_attaching_is_the_one_that_counts(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        await w.join(alice, session, "bob")
        bob = await w.client("bob")
        look = HeldLook(w)
        bob.say("attach", session=session, id="late")
        await look.has_read.wait()
        await w.join(alice, session, "bob", "reader")
        await turns(3)
        look.go.set()
        assert (await answer_of(bob, "late"))["role"] == "reader"


def hold_takeover(w: World) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold the answer to the next takeover: the first is set when it has happened, the second lets it go."""
    take_over = w.node.sessions.take_over
    has_taken, go = asyncio.Event(), asyncio.Event()

    async def held(*args: Any) -> int:
        w.node.sessions.take_over = take_over  # type: ignore[method-assign]
        epoch = await take_over(*args)
        has_taken.set()
        await go.wait()
        return epoch

    w.node.sessions.take_over = held  # type: ignore[method-assign, assignment]
    return has_taken, go


async def test_of_two_that_take_over_at_once_the_older_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        first = await w.client()
        session = await first.open(exclusive=True)
        second, third = await w.client(), await w.client()
        has_taken, go = hold_takeover(w)
        second.say("attach", session=session, id="late")
        await has_taken.wait()
        attached = await third.ask("attach", session=session)
        await turns(3)
        go.set()
        assert (await answer_of(second, "late"))["code"] == "superseded"
        assert not second.connection.attachments
        assert attached["type"] == "attached"
        assert (await third.send(session, "mine"))["type"] == "ack"


async def test_a_holder_whose_own_takeover_comes_too_late_is_out_when_it_is_told_so(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open(exclusive=True)
        other = await w.client()
        has_taken, go = hold_takeover(w)
        alice.say("attach", session=session, since=0, id="again")
        await has_taken.wait()
        assert (await other.ask("attach", session=session))["type"] == "attached"
        await turns(3)
        go.set()
        assert (await answer_of(alice, "again"))["code"] == "superseded"
        assert not alice.connection.attachments
        assert (await other.send(session, "mine"))["type"] == "ack"
        await turns(3)
        assert alice.messages(session) == []
        assert len([f for f in alice.outlet.frames if f.get("event") == "superseded"]) == 1


async def test_who_attaches_an_exclusive_session_again_is_not_superseded_by_themselves(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open(exclusive=True)
        again = await alice.ask("attach", session=session, since=0)
        assert again["type"] == "attached"
        assert (await alice.send(session, "mine"))["type"] == "ack"
        assert not [f for f in alice.outlet.frames if f.get("event") == "superseded"]
        # A cursor that cannot be costs the request, not the session.
        assert (await alice.ask("attach", session=session, since=9))["code"] == "bad_request"
        assert (await alice.send(session, "still mine"))["type"] == "ack"
        assert not [f for f in alice.outlet.frames if f.get("event") == "superseded"]


async def test_a_reader_made_writer_cannot_write_an_exclusive_session_beside_its_holder(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open(exclusive=True)
        await w.join(alice, session, "bob", "reader")
        bob = await w.client("bob")
        await bob.ask("attach", session=session)
        await w.join(alice, session, "bob", "writer")
        await until(lambda: bob.connection.attachments[session].role == "writer")
        assert (await bob.ask("send", session=session, content="unfenced"))["code"] == "superseded"
        assert (await alice.send(session, "still mine"))["seq"] == 1
        await bob.ask("attach", session=session)
        assert (await bob.send(session, "now mine"))["seq"] == 2


async def test_a_revocation_in_the_middle_of_a_hello_closes(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        admit = w.node.leases.admit
        reached, go = asyncio.Event(), asyncio.Event()

        async def held(*args: Any) -> bool:
            reached.set()
            await go.wait()
            return await admit(*args)

        w.node.leases.admit = held  # type: ignore[method-assign, assignment]
        alice = w.connect()
        alice.say("hello", token=w.tokens.mint("alice"))
        await reached.wait()
        await w.node.revoke("default", "alice")
        go.set()
        assert await alice.closed() == 4500
        assert not [f for f in alice.outlet.frames if f["type"] == "welcome"]


async def test_a_revocation_closes_those_here_even_when_its_hint_is_lost(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        w.node.publisher.revoked = lambda *_: None  # type: ignore[method-assign]
        await w.node.revoke("default", "alice")
        assert await alice.closed() == 4500


async def test_what_was_sent_behind_a_refused_hello_is_not_done(tmp_path: Path) -> None:
    async with world(tmp_path, connections_per_user=1) as w:
        alice = await w.client()
        session = await alice.open()
        intruder = w.connect()
        intruder.say("hello", token=w.tokens.mint("alice"))
        intruder.say("attach", session=session, since=0, id="a")
        intruder.say("open", title="one more", id="o")
        intruder.say("send", session=session, content="past the limit", id="c")
        assert await intruder.closed() == 4005
        await until(lambda: not intruder.connection._is_busy)
        assert (await w.node.log.standings([session]))[session].head == 0
        assert alice.connection.identity is not None
        assert len(await w.node.sessions.list_for(alice.connection.identity, None, 10)) == 1


async def test_what_was_sent_behind_a_bad_token_is_no_bug_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        served: list[str] = []
        serve = w.node.requests.serve

        async def watched(connection: Any, frame: Any) -> None:
            served.append(type(frame).__name__)
            await serve(connection, frame)

        w.node.requests.serve = watched  # type: ignore[method-assign]
        nobody = w.connect()
        nobody.say("hello", token="bad")
        nobody.say("open", id="o")
        assert await nobody.closed() == 4500
        await until(lambda: not nobody.connection._is_busy)
        assert served == ["Hello"]


async def test_live_comes_only_after_everything_that_attached_has_told_of(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        await alice.send(session, "heard")
        publish, w.node.publisher.message = w.node.publisher.message, lambda *_: None  # type: ignore[method-assign]
        for n in range(9):
            await alice.send(session, f"lost {n}")
        w.node.publisher.message = publish  # type: ignore[method-assign]
        late = await w.client()
        attached = await late.ask("attach", session=session, since=0)
        live = await late.next("live")
        assert (attached["head"], live["seq"]) == (10, 10)
        assert late.messages(session) == list(range(1, 11))


async def test_a_cursor_set_back_by_attaching_again_is_where_a_resume_begins(tmp_path: Path) -> None:
    async with world(tmp_path, Limits(frames_per_s=1e6, frames_burst=1_000_000)) as w:
        alice = w.connect()
        token = (await alice.hello())["resume"]
        session = await alice.open()
        for n in range(5):
            await alice.send(session, f"m{n}")
        await alice.ask("heartbeat", ts=1, seen={session: 5})
        await alice.ask("attach", session=session, since=2)
        alice.vanish()
        again = w.connect()
        await again.hello(resume=token)
        assert (await again.next("attached"))["since"] == 2


async def test_a_bug_in_a_request_answered_at_once_closes_instead_of_leaving_the_rest_unanswered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        broken: Callable[..., Awaitable[None]] = lambda *_: 1 / 0  # type: ignore[assignment] # noqa: E731
        monkeypatch.setattr(w.node.publisher, "signal", broken)
        alice.say("history", session=session, id="h")
        alice.say("signal", session=session, name="typing", id="s")
        alice.say("heartbeat", ts=1, id="b")
        assert await alice.closed() == 1011


async def test_a_ticket_cannot_be_checked_while_the_live_store_is_away(tmp_path: Path) -> None:
    from store.errors import Unavailable

    async with world(tmp_path) as w:
        identity = await w.tokens.verify(w.tokens.mint("alice"))
        ticket, _ = await w.tickets.issue(identity)

        async def away(*_: Any) -> None:
            raise Unavailable("away")

        w.node.live.take_once = away  # type: ignore[method-assign, assignment]
        alice = w.connect()
        alice.say("hello", ticket=ticket)
        assert await alice.closed() == 4005


async def test_a_client_that_moves_keeps_its_exclusive_session_on_both_sockets(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        old = w.connect()
        token = (await old.hello())["resume"]
        session = await old.open(exclusive=True)
        new = w.connect()
        assert (await new.hello(resume=token))["resumed"] is True
        await new.next("live")
        await turns(3)
        assert not [f for f in old.outlet.frames if f.get("event") == "superseded"]
        assert (await old.send(session, "from the old one"))["seq"] == 1
        assert (await new.send(session, "from the new one"))["seq"] == 2
        await until(lambda: old.messages(session) == new.messages(session) == [1, 2])
        other = await w.client()
        await other.ask("attach", session=session)
        for client in (old, new):
            assert (await client.next("session"))["event"] == "superseded"


async def test_nothing_is_told_before_the_welcome(tmp_path: Path) -> None:
    async with world(tmp_path, connection_lifetime_s=0.001) as w:
        admit = w.node.leases.admit
        reached, go = asyncio.Event(), asyncio.Event()

        async def held(*args: Any) -> bool:
            reached.set()
            await go.wait()
            return await admit(*args)

        w.node.leases.admit = held  # type: ignore[method-assign, assignment]
        alice = w.connect()
        alice.say("hello", token=w.tokens.mint("alice", ttl_s=30))
        await reached.wait()
        alice.connection.check(w.clock.monotonic() + 1)
        go.set()
        await alice.next("welcome")
        assert alice.outlet.frames[0]["type"] == "welcome"
        alice.connection.check(w.clock.monotonic() + 1)
        assert [f["type"] for f in alice.outlet.frames] == ["welcome", "expiring", "migrate"]


async def test_a_stop_in_the_middle_of_requests_closes_and_leaves_nothing_running(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        look = HeldLook(w)
        alice.say("attach", session=session, since=0, id="a")
        alice.say("history", session=session, id="h")
        alice.say("send", session=session, content="behind", id="c")
        await look.has_read.wait()
        await w.node.drain()
        assert await alice.closed() == 4000
        await w.node.tasks.stop()
        assert len(w.node.tasks) == 0
        assert not [f for f in alice.outlet.frames if f.get("id") in ("a", "h", "c")]
        assert (await w.node.log.standings([session]))[session].head == 0


async def test_a_connection_that_goes_in_the_middle_of_attaching_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        bob = await w.client()
        look = HeldLook(w)
        bob.say("attach", session=session, id="a")
        await look.has_read.wait()
        bob.vanish()
        look.go.set()
        await until(lambda: not bob.connection._is_busy)
        await w.node.leases.flush()
        assert list(w.node.hub.rooms[session].attachments) == [alice.connection.id]
        entries = await w.node.live.connections_of_session("default", session)
        assert [entry.id for entry in entries] == [alice.connection.id]
        alice.vanish()
        w.node.hub.close_empty(w.clock.monotonic() + 1)
        await until(lambda: not w.node.hub._channels._channels)
        assert not w.node.hub._opening
        assert not w.node.hub._users
        assert not w.node.connections
