"""A node without sockets: opening, attaching, sending, reading, leaving."""

import asyncio
from pathlib import Path

from tests.runtime.world import world
from tests.waiting import until


async def test_a_message_is_acked_and_reaches_every_attachment_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open(title="tea")
        await w.join(alice, session, "bob")
        bob = await w.client("bob")
        attached = await bob.ask("attach", session=session, since=0)
        assert (attached["head"], attached["role"], attached["title"]) == (0, "writer", "tea")
        assert (await bob.next("live"))["seq"] == 0
        ack = await bob.send(session, "hello", metadata={"mood": "calm"})
        assert (ack["seq"], ack["duplicate"]) == (1, False)
        for client in (alice, bob):
            message = await client.next("message")
            assert (message["seq"], message["sender"], message["content"]) == (1, "bob", "hello")
            assert message["metadata"] == {"mood": "calm"}
            assert client.messages(session) == [1]


async def test_sending_again_gets_the_first_ack_and_no_second_message(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        first = await alice.send(session, "once", id="c-1")
        again = await alice.send(session, "once", id="c-1")
        assert again["duplicate"] is True
        assert again["seq"] == first["seq"]
        other = await alice.send(session, "another text", id="c-1")
        assert (other["type"], other["code"], other["retryable"]) == ("error", "id_conflict", False)
        await alice.send(session, "marker")
        await until(lambda: alice.messages(session) == [1, 2])


async def test_an_attachment_gets_everything_after_its_cursor_while_others_send(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        for n in range(300):
            await alice.send(session, f"m{n}")
        late = await w.client()
        late.say("attach", session=session, since=120, id="a")
        for n in range(20):
            await alice.send(session, f"late {n}")
        await until(lambda: late.messages(session) == list(range(121, 321)))
        assert (await late.next("live"))["seq"] >= 300


async def test_without_since_only_what_is_new_comes(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        await alice.send(session, "old")
        late = await w.client()
        attached = await late.ask("attach", session=session)
        assert (attached["since"], attached["head"]) == (1, 1)
        await alice.send(session, "new")
        assert (await late.next("message"))["content"] == "new"


async def test_a_cursor_beyond_the_head_is_a_bad_request(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        other = await w.client()
        answer = await other.ask("attach", session=session, since=5)
        assert (answer["type"], answer["code"]) == ("error", "bad_request")


async def test_what_is_not_yours_does_not_exist(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        eve = await w.client("eve")
        for request in ("attach", "close"):
            answer = await eve.ask(request, session=session)
            assert (answer["type"], answer["code"]) == ("error", "not_found"), request
        for request, more in (
            ("send", {"content": "x"}),
            ("history", {}),
            ("update", {"title": "mine"}),
            ("signal", {"name": "typing"}),
            ("read", {"seq": 1}),
            ("presence", {}),
            ("detach", {}),
        ):
            answer = await eve.ask(request, session=session, **more)
            assert (answer["type"], answer["code"]) == ("error", "not_attached"), request


async def test_a_reader_may_read_and_nothing_else(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        await w.join(alice, session, "rita", "reader")
        rita = await w.client("rita")
        assert (await rita.ask("attach", session=session))["role"] == "reader"
        for request, more in (
            ("send", {"content": "x"}),
            ("update", {"title": "x"}),
            ("close", {}),
            ("signal", {"name": "n"}),
        ):
            assert (await rita.ask(request, session=session, **more))["code"] == "forbidden", request
        await alice.send(session, "for rita")
        assert (await rita.next("message"))["content"] == "for rita"


async def test_a_removed_member_is_let_go_and_hears_nothing_more(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        await w.join(alice, session, "bob")
        bob = await w.client("bob")
        await bob.ask("attach", session=session)
        assert alice.connection.identity is not None
        await w.node.sessions.remove_member(alice.connection.identity, session, "bob")
        assert (await bob.next("session"))["event"] == "deleted"
        assert not bob.connection.attachments
        await alice.send(session, "secret")
        assert (await bob.ask("send", session=session, content="x"))["code"] == "not_attached"
        assert bob.messages(session) == []


async def test_history_is_paged_in_both_directions(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        await asyncio.gather(*(alice.send(session, f"m{n}", id=f"c{n}") for n in range(60)))
        page = await alice.ask("history", session=session, before=31, limit=10)
        assert [m["seq"] for m in page["messages"]] == list(range(21, 31))
        assert (page["more"], page["head"]) == (True, 60)
        page = await alice.ask("history", session=session, after=55, limit=10)
        assert [m["seq"] for m in page["messages"]] == [56, 57, 58, 59, 60]
        assert page["more"] is False
        page = await alice.ask("history", session=session, before=4, limit=10)
        assert [m["seq"] for m in page["messages"]] == [1, 2, 3]
        assert page["more"] is False


async def test_large_history_is_cut_and_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        for _ in range(60):
            await alice.send(session, "x" * 60_000)
        page = await alice.ask("history", session=session, after=0, limit=200)
        assert page["more"] is True
        assert 0 < len(page["messages"]) < 60
        assert [m["seq"] for m in page["messages"]] == list(range(1, len(page["messages"]) + 1))


async def test_closing_a_session_tells_everybody_once_and_refuses_what_follows(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        await w.join(alice, session, "bob")
        bob = await w.client("bob")
        await bob.ask("attach", session=session)
        await alice.send(session, "last words")
        assert (await alice.ask("close", session=session))["type"] == "closed"
        event = await bob.next("session")
        while event["event"] != "closed":
            event = await bob.next("session")
        assert bob.messages(session) == [1]
        assert (await bob.ask("send", session=session, content="x"))["code"] == "not_attached"
        assert (await bob.ask("attach", session=session))["code"] == "closed"
        kinds = [
            event.kind for event in await w.node.log.events(after=0, limit=100) if event.session == session
        ]
        assert kinds.count("closed") == 1


async def test_an_update_is_answered_and_told(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        other = await w.client("alice")
        await other.ask("attach", session=session)
        updated = await alice.ask("update", session=session, title="new", metadata={"a": [1]})
        event = await other.next("session")
        assert (event["event"], event["version"], event["changes"]) == (
            "updated",
            updated["version"],
            {"title": "new", "metadata": {"a": [1]}},
        )
        archived = await alice.ask("update", session=session, status="archived")
        assert (await other.next("session"))["event"] == "archived"
        assert archived["version"] == updated["version"] + 1


async def test_signals_reach_the_others_and_are_not_stored(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        other = await w.client("alice")
        await other.ask("attach", session=session)
        alice.say("signal", session=session, name="typing", data={"on": True})
        signal = await other.next("signal")
        assert (signal["name"], signal["data"], signal["sender"]) == ("typing", {"on": True}, "alice")
        assert signal["connection"] == alice.connection.id
        await alice.ask("presence", session=session)
        assert not [f for f in alice.outlet.frames if f["type"] == "signal"]
        assert (await w.node.log.standings([session]))[session].head == 0


async def test_read_markers_are_stored_and_told_to_the_others(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        await w.join(alice, session, "bob")
        bob = await w.client("bob")
        await bob.ask("attach", session=session)
        await alice.send(session, "one")
        await bob.next("message")
        bob.say("read", session=session, seq=1)
        mark = await alice.next("read")
        assert (mark["user"], mark["seq"]) == ("bob", 1)

        async def stored() -> bool:
            return any(c.user == "bob" and c.read == 1 for c in await w.node.log.cursors(session))

        await until(stored)
        assert (await bob.ask("read", session=session, seq=9))["code"] == "bad_request"


async def test_presence_is_told_and_can_be_asked_for(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open()
        await w.join(alice, session, "bob")
        bob = await w.client("bob")
        await bob.ask("attach", session=session)
        joined = await alice.next("presence")
        assert (joined["event"], joined["user"], joined["connections"]) == ("join", "bob", 1)
        second = await w.client("bob")
        await second.ask("attach", session=session)
        answer = await alice.ask("presence", session=session)
        assert {u["user"]: u["connections"] for u in answer["users"]} == {"alice": 1, "bob": 2}
        assert not [
            f
            for f in alice.outlet.frames
            if f.get("event") == "join" and f is not joined and f["user"] == "bob"
        ]


async def test_the_heartbeat_tells_heads_and_remaining_life(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open(ttl=60)
        kept = await alice.open(persistent=True)
        await alice.send(session, "x")
        # The ack may be a turn of the loop ahead of the message, by which the head is known.
        await until(lambda: alice.messages(session) == [1])
        answer = await alice.ask("heartbeat", ts=17, seen={session: 1})
        assert answer["ts"] == 17
        assert answer["sessions"][session] == {"head": 1, "ttl_ms": 60_000}
        assert answer["sessions"][kept]["head"] == 0

        async def stored() -> bool:
            return any(c.delivered == 1 for c in await w.node.log.cursors(session))

        await until(stored)


async def test_a_list_read_through_the_cache_is_never_older_than_what_its_reader_knows(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        alice = await w.client("alice")
        session = await alice.open(title="one")
        await w.join(alice, session, "bob")
        bob = await w.client("bob")
        await bob.ask("attach", session=session)
        caller = bob.connection.caller

        async def row() -> tuple[str, str, int]:
            (listing,) = await w.node.sessions.list_for(caller, None, 10)
            return listing.session.title, listing.preview, listing.unread

        assert await row() == ("one", "", 0)
        await alice.send(session, "first")
        assert await row() == ("one", "first", 1)
        assert await row() == ("one", "first", 1)
        await alice.ask("update", session=session, title="two")
        assert await row() == ("two", "first", 1)
        bob.say("read", session=session, seq=1)

        async def is_read() -> bool:
            return await row() == ("two", "first", 0)

        await until(is_read)
        await alice.ask("close", session=session)
        assert await w.node.sessions.list_for(caller, None, 10) == []
