"""Ack means committed: Postgres is killed in the middle of appends, and all that was acked is there."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from loadtest.servers.postgres import PostgresServer
from store.errors import Unavailable
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from store.types import Appended, Draft, Message, Refused, Session
from tests.store.making import draft, opened
from tests.store.postgres_databases import Databases

WRITERS = 4
OPTIONS = PostgresOptions(connect_timeout_s=1.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    """One that syncs, as it comes."""
    with PostgresServer.start(tmp_path) as server:
        yield server


@pytest.fixture
async def log(server: PostgresServer) -> AsyncIterator[PostgresLog]:
    async with Databases(server).fresh() as url:
        log = PostgresLog(url, OPTIONS)
        await log.start()
        yield log
        await log.close()


class Writing:
    """Writers that go on until the server is gone, and what they were told."""

    def __init__(self, log: PostgresLog, sessions: list[Session], seed: int) -> None:
        self._log = log
        self._sessions = sessions
        self._chance = random.Random(seed)  # noqa: S311
        self.acked: dict[str, tuple[str, int]] = {}
        self.doubtful: list[list[Draft]] = []

    async def until_killed(self, server: PostgresServer, acks: int) -> None:
        writers = [asyncio.create_task(self._write()) for _ in range(WRITERS)]
        while len(self.acked) < acks:
            await asyncio.wait(writers, timeout=0.001)
        server.kill()
        await asyncio.gather(*writers)

    async def _write(self) -> None:
        while True:
            group = [
                draft(self._chance.choice(self._sessions), content="x" * 300)
                for _ in range(self._chance.choice((1, 1, 5, 100)))
            ]
            try:
                self._note(group, await self._log.append(group))
            except Unavailable:
                self.doubtful.append(group)
                return

    async def ask_again(self) -> None:
        """Learn what became of the groups whose outcome is unknown."""
        for group in self.doubtful:
            self._note(group, await self._log.append(group))
        self.doubtful.clear()

    def _note(self, group: list[Draft], outcomes: list[Appended | Refused]) -> None:
        for sent, outcome in zip(group, outcomes, strict=True):
            assert isinstance(outcome, Appended)
            assert outcome.id == sent.id
            self.acked[sent.id] = (sent.session, outcome.seq)


async def survive(server: PostgresServer, log: PostgresLog, lives: int, seed: int) -> None:
    sessions = [await opened(log) for _ in range(5)]
    chance = random.Random(seed)  # noqa: S311
    writing = Writing(log, sessions, seed)
    for _ in range(lives):
        await writing.until_killed(server, len(writing.acked) + chance.choice((1, 20, 300, 1_000)))
        server.again()
        stored = {
            message.id: (session.id, message.seq)
            for session in sessions
            for message in await everything(log, session)
        }
        lost = {id: ack for id, ack in writing.acked.items() if stored.get(id) != ack}
        assert not lost
        await writing.ask_again()
    for session in sessions:
        mine = [seq for id, seq in writing.acked.values() if id == session.id]
        assert sorted(mine) == [message.seq for message in await everything(log, session)]


async def everything(log: PostgresLog, session: Session) -> list[Message]:
    head = (await log.standings([session.id]))[session.id].head
    messages = await log.read(session.id, after=0, limit=head + 100)
    assert [message.seq for message in messages] == list(range(1, head + 1))
    return messages


async def test_everything_acked_survives_a_postgres_that_is_killed(
    server: PostgresServer, log: PostgresLog
) -> None:
    await survive(server, log, lives=5, seed=2)


@pytest.mark.slow
async def test_everything_acked_survives_a_postgres_that_is_killed_fifty_times(
    server: PostgresServer, log: PostgresLog
) -> None:
    await survive(server, log, lives=50, seed=3)
