"""The outbox of lifecycle events, and the revocations: two lists whose ids only grow."""

import sqlite3
from typing import Final

from store.log_sqlite.connection import single
from store.types import Event, EventKind, Revocation, Session

_EVENTS: Final = """
    SELECT id, tenant_id, session_id, kind, version, at, data FROM events WHERE id > ? ORDER BY id LIMIT ?"""


def record(db: sqlite3.Connection, session: Session, kind: EventKind, at: int) -> None:
    """Write what happened to a session into the outbox, in the transaction in which it happens."""
    db.execute(
        "INSERT INTO events (tenant_id, session_id, kind, version, at) VALUES (?, ?, ?, ?, ?)",
        (session.tenant, session.id, kind, session.version, at),
    )


def events(db: sqlite3.Connection, after: int, limit: int) -> list[Event]:
    """Lifecycle events behind an id."""
    rows = db.execute(_EVENTS, (after, max(0, limit))).fetchall()
    return [
        Event(id=id, tenant=tenant, session=session, kind=kind, version=version, at=at, data=data.encode())
        for id, tenant, session, kind, version, at, data in rows
    ]


def revoke(db: sqlite3.Connection, tenant: str, user: str, before: int) -> Revocation:
    """Store a revocation."""
    sql = "INSERT INTO revocations (tenant_id, user_id, before) VALUES (?, ?, ?) RETURNING id"
    id: int = single(db, sql, tenant, user, before)
    return Revocation(id=id, tenant=tenant, user=user, before=before)


def revocations(db: sqlite3.Connection, after: int, limit: int) -> list[Revocation]:
    """Revocations behind an id."""
    sql = "SELECT id, tenant_id, user_id, before FROM revocations WHERE id > ? ORDER BY id LIMIT ?"
    rows = db.execute(sql, (after, max(0, limit))).fetchall()
    return [Revocation(id=id, tenant=tenant, user=user, before=before) for id, tenant, user, before in rows]
