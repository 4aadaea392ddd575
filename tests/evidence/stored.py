"""What is in the log's database after a run, read from beside the gateway."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.evidence.history import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """One row of `messages`."""

    session: str
    seq: int
    sender: str
    client_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class Stored:
    """All messages, by session and seq, and each session's head as its own row has it."""

    messages: Sequence[StoredMessage]
    heads: Mapping[str, int]


def read_sqlite(database: Path) -> Stored:
    """Read the embedded log, read-only: a checker that could repair what it checks would prove nothing."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        heads = dict(connection.execute("SELECT id, head FROM sessions"))
        rows = connection.execute(
            "SELECT session_id, seq, sender, client_id, role, content, metadata FROM messages"
            " ORDER BY session_id, seq"
        )
        messages = [
            StoredMessage(
                session=session,
                seq=seq,
                sender=sender,
                client_id=client_id,
                digest=digest(role, content, json.loads(metadata)),
            )
            for session, seq, sender, client_id, role, content, metadata in rows
        ]
    return Stored(messages, heads)


async def read_postgres(url: str) -> Stored:
    """Read the shared log, in one transaction that can change nothing."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            sessions = await connection.fetch("SELECT id::text, head FROM sessions")
            rows = await connection.fetch(
                "SELECT session_id::text, seq, sender, client_id, role, content, metadata::text FROM messages"
                " ORDER BY session_id, seq"
            )
    finally:
        await connection.close()
    heads: dict[str, int] = {id: head for id, head in sessions}  # noqa: C416 - a row is no pair to dict()
    messages = [
        StoredMessage(
            session=session,
            seq=seq,
            sender=sender,
            client_id=client_id,
            digest=digest(role, content, json.loads(metadata)),
        )
        for session, seq, sender, client_id, role, content, metadata in rows
    ]
    return Stored(messages, heads)
