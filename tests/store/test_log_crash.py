"""Ack means committed: a process that appends is killed again and again, and all it had acked is there."""

import asyncio
import contextlib
import random
import sqlite3
import sys
from pathlib import Path

import pytest

from store.log_sqlite.log import SqliteLog
from tests.store.appender import SESSIONS

Acks = dict[str, tuple[str, int]]  # client id → session and seq


async def one_life(folder: Path, seed: int, lines: int) -> Acks:
    """Start an appender, kill it once it has acked so many messages, and return all that it acked."""
    acks: Acks = {}
    command = (sys.executable, "-m", "tests.store.appender", str(folder), str(seed))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while line := await process.stdout.readline():
                # The last line may be torn: its message was acked, but nobody could have understood it.
                if line.endswith(b"\n") and line != b"ready\n":
                    session, seq, client_id = line.decode().split()
                    acks[client_id] = (session, int(seq))
                if len(acks) >= lines and process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert len(acks) >= lines, "the appender ended by itself"
    return acks


async def verify(folder: Path, acks: Acks) -> int:
    """Compare the log with what was acked; return how many messages it holds."""
    log = SqliteLog(folder)
    await log.start()
    try:
        standings = await log.standings([f"session-{number}" for number in range(SESSIONS)])
        stored: Acks = {}
        for session, standing in standings.items():
            messages = await log.read(session, after=0, limit=standing.head + 100)
            assert [message.seq for message in messages] == list(range(1, standing.head + 1))
            for message in messages:
                assert message.client_id not in stored
                stored[message.client_id] = (session, message.seq)
    finally:
        await log.close()
    lost = {client_id: ack for client_id, ack in acks.items() if stored.get(client_id) != ack}
    assert not lost
    with contextlib.closing(sqlite3.connect(folder / "gateway.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return len(stored)


async def survive(folder: Path, lives: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    acks: Acks = {}
    for life in range(lives):
        acks |= await one_life(folder, seed * 1_000 + life, chance.choice((1, 20, 300, 1_500)))
        assert await verify(folder, acks) >= len(acks)


async def test_everything_acked_survives_being_killed(tmp_path: Path) -> None:
    await survive(tmp_path, lives=6, seed=2)


@pytest.mark.slow
async def test_everything_acked_survives_being_killed_a_hundred_times(tmp_path: Path) -> None:
    await survive(tmp_path, lives=100, seed=3)


async def test_the_comparison_finds_a_lost_message_and_a_hole(tmp_path: Path) -> None:
    acks = await one_life(tmp_path, seed=4, lines=50)
    lost, (session, seq) = next(iter(acks.items()))
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as db:
        db.execute(
            "UPDATE messages SET client_id = 'another' WHERE session_id = ? AND seq = ?", (session, seq)
        )
        with pytest.raises(AssertionError, match=lost):
            await verify(tmp_path, acks)
        db.execute("DELETE FROM messages WHERE session_id = ? AND seq = ?", (session, seq))
        with pytest.raises(AssertionError):
            await verify(tmp_path, {})
