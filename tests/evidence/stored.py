"""What is in the log's database after a run, read from beside the gateway."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tests.evidence.history import Record, digest


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
    """All messages, by session and seq; each session's head and how it ended, as its own row has it; the
    outbox as (session, kind).
    """

    messages: Sequence[StoredMessage]
    heads: Mapping[str, int]
    ends: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[tuple[str, str]] = ()

    def records(self, sessions: Collection[str] | None = None) -> Iterator[Record]:
        """What is said of these sessions, or of all, as the last lines of a history."""

        def concerns(session: str) -> bool:
            return sessions is None or session in sessions

        for row in self.messages:
            if concerns(row.session):
                yield Record(
                    client="log",
                    op="stored",
                    at=0.0,
                    session=row.session,
                    seq=row.seq,
                    sender=row.sender,
                    id=row.client_id,
                    digest=row.digest,
                )
        for session, head in self.heads.items():
            if concerns(session):
                what = self.ends.get(session)
                yield Record(client="log", op="head", at=0.0, session=session, seq=head, what=what)
        for session, kind in self.events:
            if concerns(session):
                yield Record(client="log", op="event", at=0.0, session=session, what=kind)


def stored_in(records: Iterable[Record]) -> Stored:
    """What a history says of what is stored."""
    messages: list[StoredMessage] = []
    heads: dict[str, int] = {}
    ends: dict[str, str] = {}
    events: list[tuple[str, str]] = []
    for record in records:
        match record.op:
            case "stored":
                messages.append(
                    StoredMessage(
                        session=record.session,
                        seq=record.seq or 0,
                        sender=record.sender or "",
                        client_id=record.id or "",
                        digest=record.digest or "",
                    )
                )
            case "head":
                heads[record.session] = record.seq or 0
                if record.what is not None:
                    ends[record.session] = record.what
            case "event":
                events.append((record.session, record.what or ""))
            case _:
                pass
    return Stored(messages, heads, ends, events)


def read_sqlite(database: Path) -> Stored:
    """Read the embedded log, read-only: a checker that could repair what it checks would prove nothing."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        sessions = connection.execute("SELECT id, head, end_reason FROM sessions").fetchall()
        events = connection.execute("SELECT session_id, kind FROM events ORDER BY id").fetchall()
        rows = connection.execute(
            "SELECT session_id, seq, sender, client_id, role, content, metadata FROM messages"
            " ORDER BY session_id, seq"
        ).fetchall()
    return _stored(rows, sessions, events)


async def read_postgres(url: str) -> Stored:
    """Read the shared log, in one transaction that can change nothing."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            sessions = await connection.fetch("SELECT id::text, head, end_reason FROM sessions")
            events = await connection.fetch("SELECT session_id::text, kind FROM events ORDER BY position")
            rows = await connection.fetch(
                "SELECT session_id::text, seq, sender, client_id, role, content, metadata::text FROM messages"
                " ORDER BY session_id, seq"
            )
    finally:
        await connection.close()
    return _stored(rows, sessions, events)


def _stored(rows: Iterable[Any], sessions: Iterable[Any], events: Iterable[Any]) -> Stored:
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
    heads, ends = dict[str, int](), dict[str, str]()
    for session, head, reason in sessions:
        heads[session] = head
        if reason is not None:
            ends[session] = reason
    return Stored(messages, heads, ends, [(session, kind) for session, kind in events])
