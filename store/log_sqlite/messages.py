"""Messages read back, and the heads of sessions."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from store.types import Message

_COLUMNS: Final = "session_id, seq, id, client_id, sender, role, content, metadata, created_at"


def read(db: sqlite3.Connection, session: str, after: int, limit: int) -> list[Message]:
    return _messages(
        db.execute(
            f"SELECT {_COLUMNS} FROM messages WHERE session_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (session, after, limit),
        ).fetchall()
    )


def read_before(db: sqlite3.Connection, session: str, before: int, limit: int) -> list[Message]:
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM messages WHERE session_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
        (session, before, limit),
    ).fetchall()
    return _messages(reversed(rows))


def heads(db: sqlite3.Connection, sessions: Sequence[str]) -> dict[str, int]:
    (found,) = db.execute(
        "SELECT json_group_object(sessions.id, sessions.head) FROM json_each(?) AS wanted JOIN sessions ON sessions.id = wanted.value",
        (msgspec.json.encode(list(sessions)).decode(),),
    ).fetchone()
    return msgspec.json.decode(found, type=dict[str, int])


def _messages(rows: Iterable[tuple[Any, ...]]) -> list[Message]:
    return [
        Message(
            session=session,
            seq=seq,
            id=id,
            client_id=client_id,
            sender=sender,
            role=role,
            content=content,
            metadata=metadata.encode(),
            created_at=created_at,
        )
        for session, seq, id, client_id, sender, role, content, metadata, created_at in rows
    ]
