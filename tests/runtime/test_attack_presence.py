"""Joins and leaves: told when they are true, once, and never of somebody who only moved."""

import asyncio
from pathlib import Path
from typing import Any

from gateway.fanout import presence as presence_module
from tests.runtime.world import Client, World, world
from tests.waiting import turns, until


def told(client: Client, user: str) -> list[str]:
    return [f["event"] for f in client.outlet.frames if f["type"] == "presence" and f.get("user") == user]


async def room_of_olga(w: World) -> tuple[Client, str]:
    olga = await w.client("olga")
    session = await olga.open()
    await w.join(olga, session, "bob")
    return olga, session


async def test_an_older_connection_of_somebody_present_joins_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        olga, session = await room_of_olga(w)
        older = await w.client("bob")
        await until(lambda: w.clock.now_ms() > older.connection.since)
        newer = await w.client("bob")
        await newer.ask("attach", session=session)
        await older.ask("attach", session=session)
        await until(lambda: len(told(olga, "bob")) >= 1)
        await turns(5)
        assert told(olga, "bob") == ["join"]


async def test_somebody_who_moves_to_another_socket_joins_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        olga, session = await room_of_olga(w)
        old = w.connect()
        token = (await old.hello("bob"))["resume"]
        await old.ask("attach", session=session)
        await until(lambda: told(olga, "bob") == ["join"])
        new = w.connect()
        assert (await new.hello("bob", resume=token))["resumed"] is True
        await new.next("live")
        old.vanish(1000)
        await turns(5)
        w.node.presence._monotonic = lambda: w.clock.monotonic() + presence_module.GRACE_S + 1
        await w.node.leases.flush()
        await w.node.presence.announce_leaves()
        await turns(5)
        assert told(olga, "bob") == ["join"]


async def test_the_grace_begins_with_the_last_connection_that_goes(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        olga, session = await room_of_olga(w)
        one, two = await w.client("bob"), await w.client("bob")
        await one.ask("attach", session=session)
        await two.ask("attach", session=session)
        presence, now = w.node.presence, w.clock.monotonic()
        presence._monotonic = lambda: now
        one.vanish()
        presence._monotonic = lambda: now + presence_module.GRACE_S - 1
        two.vanish()
        await w.node.leases.flush()
        presence._monotonic = lambda: now + presence_module.GRACE_S + 1
        await presence.announce_leaves()
        await turns(5)
        assert told(olga, "bob") == ["join"]
        presence._monotonic = lambda: now + 2 * presence_module.GRACE_S
        await presence.announce_leaves()
        await until(lambda: told(olga, "bob") == ["join", "leave"])


async def test_who_goes_while_attaching_is_still_told_to_have_left(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        olga, session = await room_of_olga(w)
        first = await w.client("bob")
        await first.ask("attach", session=session)
        await until(lambda: told(olga, "bob") == ["join"])
        first.vanish()
        second = await w.client("bob")
        reached, go = asyncio.Event(), asyncio.Event()
        write = w.node.leases.assert_now

        async def held(connection: Any) -> None:
            await write(connection)
            reached.set()
            await go.wait()

        w.node.leases.assert_now = held  # type: ignore[method-assign]
        second.say("attach", session=session, id="a")
        await reached.wait()
        second.vanish()
        go.set()
        await turns(5)
        await w.node.leases.flush()
        w.node.presence._monotonic = lambda: w.clock.monotonic() + presence_module.GRACE_S + 1
        await w.node.presence.announce_leaves()
        await until(lambda: told(olga, "bob") == ["join", "leave"])


async def test_a_join_costs_the_users_connections_and_not_the_sessions(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        olga, session = await room_of_olga(w)

        async def all_of_them(*_: Any) -> Any:
            raise AssertionError("a session may have thousands of connections, and all come back at once")

        w.node.live.connections_of_session = all_of_them  # type: ignore[method-assign, assignment]
        bob = await w.client("bob")
        await bob.ask("attach", session=session)
        await until(lambda: told(olga, "bob") == ["join"])
        bob.vanish()
        await w.node.leases.flush()
        w.node.presence._monotonic = lambda: w.clock.monotonic() + presence_module.GRACE_S + 1
        await w.node.presence.announce_leaves()
        await until(lambda: told(olga, "bob") == ["join", "leave"])
