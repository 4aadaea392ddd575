"""Sessions end, and nodes die meanwhile: each event is told once, to who reads them and to the webhook."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from gateway import ids
from store.live_redis.live import RedisLive
from store.log_postgres.connection import Connection, connect
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from store.types import NewSession
from tests.cluster.feed import Feed
from tests.cluster.world import Ground, World
from tests.evidence.sessions import TERMINAL
from tests.gateway.talk import Talk, talk
from tests.process import GatewayProcess
from tests.runtime.receiver import Receiver, cut, status
from tests.waiting import until

OPTIONS: Final = PostgresOptions()
# Longer than it takes to find out that a node is dead: what it had said of its sessions is there so long.
WINDOW_S: Final = 16
# Longer than that takes (15 s), and the window behind it.
TTL_S: Final = 34
# Three whole batches of sweepers, and some.
DUE: Final = 330
ENV: Final = {
    "GATEWAY_RESUME_WINDOW_S": str(WINDOW_S),
    "GATEWAY_WEBHOOK_SECRET": "a secret of the tests that is long enough",
    # A node that is killed in its turn keeps the others waiting for 1.5 of these and 15 s.
    "GATEWAY_WEBHOOK_TIMEOUT_S": "1",
}


@dataclass
class Beside:
    """Who is no node: sees the database and the indexes, and stands in the way there."""

    ground: Ground
    db: Connection
    log: PostgresLog
    live: RedisLive

    async def states(self, sessions: Sequence[str]) -> list[str | None]:
        """What the live records say of sessions."""
        found = [await self.live.session("default", session) for session in sessions]
        return [None if record is None else record.state for record in found]

    async def event_ids(self) -> list[int | None]:
        """Those of all events there are."""
        return [row[0] for row in await self.db.fetch("SELECT id FROM events ORDER BY id")]

    async def waiting(self) -> dict[str, int]:
        """Which nodes wait for a lock, and by which process of the server."""
        rows = await self.db.fetch(
            "SELECT application_name, pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return {row[0]: row[1] for row in rows}


@asynccontextmanager
async def beside(ground: Ground, prefix: str) -> AsyncIterator[Beside]:
    async with AsyncExitStack() as stack:
        made = Beside(
            ground,
            await connect(ground.database_url, OPTIONS),
            PostgresLog(ground.database_url, OPTIONS),
            RedisLive(ground.redis_url, prefix),
        )
        stack.callback(made.db.terminate)
        await made.log.start()
        stack.push_async_callback(made.log.close)
        stack.push_async_callback(made.live.close)
        yield made


@dataclass
class Scene:
    """Three nodes, somebody who reads their events all the while, and a receiver of the webhook."""

    world: World
    feed: Feed
    receiver: Receiver
    beside: Beside
    stack: AsyncExitStack  # of connections that stay open as long as their node lives

    @property
    def nodes(self) -> list[GatewayProcess]:
        return self.world.nodes

    def changes(self, session: str) -> list[str]:
        """What happened to a session, without those who came and went."""
        return [kind for kind in self.feed.kinds(session) if kind not in ("joined", "left")]

    async def until_all_is_told(self, *, within: float) -> None:
        """Wait until reader and receiver have had every event there is."""

        known: list[int | None] = []

        async def is_told() -> bool:
            known[:] = await self.beside.event_ids()
            return None not in known and self.feed.ids == known and set(self.receiver.taken) == set(known)

        try:
            await until(is_told, within=within, what="reader and receiver have every event")
        except AssertionError as failure:
            read, received = set(known) - set(self.feed.ids), set(known) - set(self.receiver.taken)
            failure.add_note(f"of {len(known)} the reader lacks {read}, the receiver {received}")
            raise

    def verdict(self) -> None:
        """Whatever happened: in order, nothing twice, and one end for whatever has ended."""
        assert self.feed.ids == sorted(set(self.feed.ids))
        for kind in ("created", "closed", "expired", "deleted"):
            assert set(self.feed.count(kind).values()) <= {1}, kind
        received = {event["id"]: event for request in self.receiver.requests for event in request.events}
        assert [received[id] for id in sorted(received)] == self.feed.events
        first_seen = list(dict.fromkeys(self.receiver.taken))
        assert first_seen == sorted(first_seen)
        ends = Counter(event["session"] for event in self.feed.events if event["kind"] in TERMINAL)
        assert set(ends.values()) <= {1}
        for user, session in {(e["actor"], e["session"]) for e in self.feed.events if e["kind"] == "joined"}:
            seen = [
                event["kind"]
                for event in self.feed.events
                if (event["actor"], event["session"]) == (user, session)
                and event["kind"] in ("joined", "left")
            ]
            assert seen in (["joined"], ["joined", "left"]), (user, seen)


@asynccontextmanager
async def scene(folder: Path, ground: Ground) -> AsyncIterator[Scene]:
    # Each node's connections to Postgres are under its own name.
    urls = tuple(f"{ground.database_url}?application_name=n{n}" for n in (1, 2, 3))
    async with Receiver() as receiver:
        env = {**ENV, "GATEWAY_WEBHOOK_URL": receiver.url}
        async with (
            World(folder, replace(ground, database_urls=urls), env=env) as world,
            beside(ground, world.prefix) as standing,
        ):
            feed = Feed(world.nodes)
            async with AsyncExitStack() as stack, feed.reading():
                yield Scene(world, feed, receiver, standing, stack)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def made(log: PostgresLog) -> list[str]:
    """Sessions that nobody attaches to."""
    new = [
        NewSession(id=ids.new_id(), tenant="default", owner=f"u{n % 5}", created_at=now_ms(), ttl_s=3600)
        for n in range(DUE)
    ]
    return [(await log.create(each, limit=DUE)).id for each in new]


async def ended_by_hand(at: Scene) -> None:
    """Sessions are changed, and ended by several at once, in every way in which somebody may."""
    log, now = at.beside.log, now_ms()
    async with AsyncExitStack() as stack:
        olgas: list[Talk] = [await stack.enter_async_context(talk(node, "olga")) for node in at.nodes]
        closed, deleted, both = [await olgas[0].open(ttl=3600) for _ in range(3)]
        for olga in olgas[1:]:
            await olga.ask("attach", session=closed)
        await olgas[1].ask("update", session=closed, title="changed")
        await olgas[2].ask("update", session=closed, status="archived")
        await asyncio.gather(*(olga.ask("close", session=closed) for olga in olgas))
        await asyncio.gather(*(log.end("default", deleted, "deleted", now=now) for _ in range(3)))
        await asyncio.gather(
            log.end("default", both, "deleted", now=now),
            *(olga.ask("close", session=both) for olga in olgas),
        )
        told = ["created", "updated", "archived", "closed"]
        await until(lambda: at.changes(closed) == told, what="what was changed")
        await until(lambda: at.changes(deleted) == ["created", "deleted"])
        await until(lambda: len(TERMINAL.intersection(at.feed.kinds(both))) == 1)


async def left_behind(at: Scene, *, is_reset: bool) -> str:
    """A session of somebody at the third node who is never heard of again."""
    user = "gone" if is_reset else "there"
    solo = await at.stack.enter_async_context(talk(at.nodes[2], user))
    session = await solo.open(ttl=TTL_S)
    await until(lambda: at.feed.kinds(session) == ["created", "joined"], what="joined is told")
    if is_reset:
        solo.socket.transport.abort()
    return session


async def killed_while_they_sweep(at: Scene, due: Sequence[str]) -> None:
    """All of these are over at once, and of the three nodes who end them two die in the middle of it."""
    _, second, third = at.nodes
    locks = await connect(at.beside.ground.database_url, OPTIONS)
    async with locks.transaction():
        # Whoever ends a session takes it off its members' lists, and there they have to wait for us.
        await locks.execute("SELECT FROM members WHERE session_id = ANY ($1::uuid[]) FOR UPDATE", due)
        await at.beside.db.execute("UPDATE sessions SET expires_at = now() WHERE id = ANY ($1)", due)

        async def are_all_in_it() -> bool:
            return (await at.beside.waiting()).keys() >= {"n1", "n2", "n3"}

        await until(are_all_in_it, within=10, what="three nodes end sessions")
        waiting = await at.beside.waiting()
        await asyncio.gather(second.kill(), third.kill())
        # What the second had begun is undone. What the third had begun is done, and nobody hears of it.
        await at.beside.db.execute("SELECT pg_terminate_backend($1)", waiting["n2"])
    locks.terminate()


@pytest.mark.timeout(150)
async def test_each_event_is_told_once_whoever_ends_a_session_and_whoever_dies(
    tmp_path: Path, ground: Ground
) -> None:
    async with scene(tmp_path, ground) as at:
        at.receiver.plan = [cut, status(500), status(200), cut]
        due = await made(at.beside.log)
        await ended_by_hand(at)
        reset = await left_behind(at, is_reset=True)
        there = await left_behind(at, is_reset=False)
        left = [reset, there]

        async def is_disconnecting() -> bool:
            return (await at.beside.states([reset]))[0] == "disconnecting"

        await until(is_disconnecting)
        await killed_while_they_sweep(at, due)
        died = time.monotonic()
        await at.nodes[1].start()
        await until(lambda: at.feed.count("expired").keys() >= set(due), within=10, what="all due are over")

        # Nobody comes back: survivors say so of who was there, and of their session for the window.
        async def is_told(state: str | None) -> bool:
            return await at.beside.states([there]) == [state]

        within = died + 15 - time.monotonic()
        await until(lambda: is_told("disconnecting"), within=within, what="it is disconnecting")
        await until(
            lambda: all(at.feed.kinds(each) == ["created", "joined", "left"] for each in left),
            within=5,
            what="who was at the dead node has left",
        )
        # Then nothing is said of it, and its TTL decides.
        await until(lambda: is_told(None), within=WINDOW_S + 2)
        assert at.feed.count("expired").keys() & set(left) == set()
        await until(lambda: at.feed.count("expired").keys() >= set(left), within=TTL_S)
        await at.until_all_is_told(within=30)
        at.verdict()
        for each in left:
            assert at.feed.kinds(each) == ["created", "joined", "left", "expired"]
        assert at.feed.count("expired").keys() == {*due, *left}
    print(f"\n{len(at.feed.events)} events, each told once; two nodes killed in the middle of a sweep")
