"""`python -m loadtest.comparing`: what it costs to compare rooms with the log, of a node and of Postgres.

Hub and comparison are the gateway's own; who reads the rooms throws away what comes. CPU time is shown, since
others may use the machine as well.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import asyncpg
import click
import psutil
import uuid_utils

from gateway.fanout import hints
from gateway.fanout.comparison import Comparison
from gateway.fanout.hub import Hub
from gateway.fanout.outlet import Outlet
from loadtest.servers.postgres import PostgresServer
from store.bus import Bus
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from store.log_postgres.schema import migrate
from store.types import Access

# Sessions that other nodes host, for each of our own: neighbours in the index are not all ours.
_OTHERS: Final = 2

_SESSIONS: Final = """
    INSERT INTO sessions (id, tenant_id, user_id, title, kind, exclusive, last_at, created_at, updated_at,
        metadata, context)
    SELECT id, 't', 'alice', '', 'persistent', false, now(), now(), now(), '{}', '{}'
    FROM unnest($1::uuid[]) AS id
"""
_MEMBERS: Final = """
    INSERT INTO members (session_id, user_id, tenant_id, role, since)
    SELECT id, 'alice', 't', 'owner', now() FROM unnest($1::uuid[]) AS id
"""
# As if there were a message more.
_MOVE: Final = "UPDATE sessions SET head = head + 1 WHERE id = ANY ($1::uuid[]) RETURNING id::text, head"


class _Silence:
    """A bus that brings nothing."""

    async def subscribe(self, channel: str) -> None:
        await asyncio.sleep(0)

    async def unsubscribe(self, channel: str) -> None:
        await asyncio.sleep(0)


class _Reader:
    """A connection that throws away what it gets."""

    id, user, lagging = "c", "alice", False
    predecessor = None

    @property
    def outlet(self) -> Outlet:
        return cast(Outlet, self)

    def put(self, frame: bytes) -> None:
        """Take a reply."""

    def put_message(self, frame: bytes) -> bool:
        """Take a message."""
        return True

    def left(self, session: str) -> None:
        """Nobody is let go here."""


class _Cost(NamedTuple):
    """CPU of the node and of Postgres."""

    node_s: float
    postgres_s: float


class _Node:
    """A hub with rooms, its comparison, and the log."""

    def __init__(self, log: PostgresLog) -> None:
        self.log = log
        self.tasks: set[asyncio.Task[None]] = set()
        self.hub = Hub(log, cast(Bus, _Silence()), self._spawn, time.monotonic)
        self.comparison = Comparison(log, self.hub, self.hub.mender, lambda: False)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def open(self, session: str) -> None:
        async def look() -> Access:
            return cast(Access, await self.log.access("t", session, "alice"))

        room, access = await self.hub.open(session, look)
        self.hub.attach(room, _Reader(), 0, access, None)

    def hear(self, session: str, head: int) -> None:
        """Have the hint of a message come."""
        payload = hints.encode(hints.MessageHint(head, b"{}"))
        self.hub.receive(hints.session_channel(session), payload)


@click.command()
@click.option("--rooms", default=18_000, show_default=True)
@click.option("--rounds", default=40, show_default=True, help="Comparisons for each line.")
@click.option(
    "--busy", default="0,100,1000,4500", show_default=True, help="Rooms with a message in each round."
)
@click.option("--lost", default="1,9", show_default=True, help="Messages in each round whose hints are lost.")
def main(rooms: int, rounds: int, busy: str, lost: str) -> None:
    """Measure, and print µs of CPU for each room and round."""
    with tempfile.TemporaryDirectory() as folder, PostgresServer.start(Path(folder)) as server:
        url = server.database()
        migrate(url, PostgresOptions())
        asyncio.run(_measure(server, url, rooms, rounds, [_numbers(busy), _numbers(lost)]))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


async def _measure(server: PostgresServer, url: str, rooms: int, rounds: int, moved: list[list[int]]) -> None:
    beside = await asyncpg.connect(url)
    sessions = [str(uuid_utils.uuid7()) for _ in range(rooms * (1 + _OTHERS))]
    for statement in (_SESSIONS, _MEMBERS):
        await beside.execute(statement, sessions)
    await beside.execute("VACUUM ANALYZE")
    log = PostgresLog(url, PostgresOptions())
    await log.start()
    node = _Node(log)
    own = random.sample(sessions, rooms)
    for session in own:
        await node.open(session)
    for _ in range(2):
        await node.comparison.compare()
    busy, lost = moved
    for is_lost, count in [*((False, count) for count in busy), *((True, count) for count in lost)]:
        log.queries.clear()
        costs = []
        for _ in range(rounds):
            rows = await beside.fetch(_MOVE, random.sample(own, count))
            for session, head in rows if not is_lost else []:
                node.hear(session, head)
            costs.append(await _compared(node, server))
        node_us, postgres_us = (sum(spent) / rounds / rooms * 1e6 for spent in zip(*costs, strict=True))
        what = f"{count:5} {'hints lost' if is_lost else 'messages'}"
        asked = ", ".join(f"{kind} {number / rounds:.1f}" for kind, number in sorted(log.queries.items()))
        click.echo(f"{what:16}  node {node_us:5.2f} µs  Postgres {postgres_us:5.2f} µs  queries: {asked}")
    for task in node.tasks:
        task.cancel()
    await log.close()
    await beside.close()


async def _compared(node: _Node, server: PostgresServer) -> _Cost:
    """What one comparison costs."""
    postgres_s = _postgres_s(server)
    # Within: to ask for the times of other processes costs more than the comparison.
    node_s = time.process_time()
    await node.comparison.compare()
    node_s = time.process_time() - node_s
    return _Cost(node_s, _postgres_s(server) - postgres_s)


def _postgres_s(server: PostgresServer) -> float:
    times = [backend.cpu_times() for backend in psutil.Process(server.pid).children()]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    main()
