"""The last sign of life of a session counts, whatever becomes of its room and of its node right after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.runtime import sweeper as sweeper_module
from store.errors import Unavailable
from store.log_sqlite.log import SqliteLog
from tests.runtime.world import Client, World, world

TTL_S = 100
LATER_MS = 50_000


@asynccontextmanager
async def heard(tmp_path: Path) -> AsyncIterator[tuple[World, Client, str]]:
    """A temporary session half of whose time is over, and somebody in it of whom something was just heard."""
    async with world(tmp_path, sweep_s=1e6) as w:
        alice = await w.client()
        session = await alice.open(ttl=TTL_S)
        await w.node.sweeper.tend(w.clock.monotonic())
        now_ms = w.clock.now_ms
        w.clock.now_ms = lambda: now_ms() + LATER_MS  # type: ignore[method-assign]
        await alice.ask("heartbeat", ts=1)
        yield w, alice, session


async def left_ms(w: World, session: str) -> int:
    """For how long the session lives on."""
    found = await w.node.log.get("default", session)
    assert found is not None
    assert found.expires_at is not None
    return found.expires_at - w.clock.now_ms()


def close(w: World, *clients: Client) -> None:
    """Everybody goes, and the rooms with them."""
    for client in clients:
        client.vanish()
    w.node.hub.close_empty(w.clock.monotonic() + 1)
    assert w.node.hub.rooms == {}


async def test_a_sign_of_life_counts_though_its_room_is_closed_before_the_next_sweep(tmp_path: Path) -> None:
    async with heard(tmp_path) as (w, alice, session):
        close(w, alice)
        await w.node.sweeper.tend(w.clock.monotonic())
        assert await left_ms(w, session) > (TTL_S - 1) * 1000


async def test_a_sign_of_life_counts_though_the_log_is_away_when_its_room_is_closed(tmp_path: Path) -> None:
    async with heard(tmp_path) as (w, alice, session):
        close(w, alice)
        extend = w.node.log.extend

        async def away(expiries: object) -> None:
            raise Unavailable("away")

        w.node.log.extend = away  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(Unavailable):
                await w.node.sweeper.tend(w.clock.monotonic())
        w.node.log.extend = extend  # type: ignore[method-assign]
        await w.node.sweeper.tend(w.clock.monotonic())
        assert await left_ms(w, session) > (TTL_S - 1) * 1000
        queries = w.node.log.queries["extend"]
        await w.node.sweeper.tend(w.clock.monotonic())
        assert w.node.log.queries["extend"] == queries


async def test_while_the_log_is_away_only_so_many_closed_rooms_are_owed_their_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "OWED", 2)
    async with heard(tmp_path) as (w, alice, first):
        others = [await alice.open(ttl=TTL_S) for _ in range(2)]
        await alice.ask("heartbeat", ts=1)
        close(w, alice)
        extend = w.node.log.extend

        async def away(expiries: object) -> None:
            raise Unavailable("away")

        w.node.log.extend = away  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await w.node.sweeper.tend(w.clock.monotonic())
        w.node.log.extend = extend  # type: ignore[method-assign]
        await w.node.sweeper.tend(w.clock.monotonic())
        # The oldest lost its sign of life, and no other.
        assert await left_ms(w, first) < (TTL_S - 1) * 1000
        for other in others:
            assert await left_ms(w, other) > TTL_S * 1000


async def test_a_sign_of_life_counts_though_its_node_stops_before_the_next_sweep(tmp_path: Path) -> None:
    async with heard(tmp_path) as (w, alice, session):
        now = w.clock.now_ms()
        alice.vanish()
    log = SqliteLog(tmp_path)
    await log.start()
    found = await log.get("default", session)
    await log.close()
    assert found is not None
    assert (found.expires_at or 0) - now > (TTL_S - 1) * 1000


async def test_a_session_that_has_ended_is_owed_nothing(tmp_path: Path) -> None:
    async with heard(tmp_path) as (w, alice, session):
        await alice.ask("close", session=session)
        queries = w.node.log.queries["extend"]
        await w.node.sweeper.tend(w.clock.monotonic())
        assert w.node.log.queries["extend"] == queries


async def test_what_waits_for_the_sweep_of_a_closed_room_is_none_of_its_messages(tmp_path: Path) -> None:
    async with heard(tmp_path) as (w, alice, session):
        room = w.node.hub.rooms[session]
        await alice.send(session, "x" * 1000)
        assert room.relay.tail_after(0, 10)
        close(w, alice)
        assert room in w.node.hub.take_stirred()
        assert room.relay.tail_after(0, 10) is None
        assert room.relay.head == 1
