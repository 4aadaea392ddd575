"""The outbox of lifecycle events, and the revocations: two lists whose ids only grow."""

import sqlite3

from store.types import Event, EventKind, Revocation, Session


def record(db: sqlite3.Connection, session: Session, kind: EventKind, at: int) -> None:
    """Write what happened to a session into the outbox, in the transaction in which it happens."""
    db.execute(
        "INSERT INTO events (tenant_id, session_id, kind, version, at) VALUES (?, ?, ?, ?, ?)",
        (session.tenant, session.id, kind, session.version, at),
    )


def events(db: sqlite3.Connection, after: int, limit: int) -> list[Event]:
    rows = db.execute(
        "SELECT id, tenant_id, session_id, kind, version, at, data FROM events WHERE id > ? ORDER BY id LIMIT ?",
        (after, limit),
    ).fetchall()
    return [
        Event(id=id, tenant=tenant, session=session, kind=kind, version=version, at=at, data=data.encode())
        for id, tenant, session, kind, version, at, data in rows
    ]


def revoke(db: sqlite3.Connection, tenant: str, user: str, before: int) -> Revocation:
    id = db.execute(
        "INSERT INTO revocations (tenant_id, user_id, before) VALUES (?, ?, ?)", (tenant, user, before)
    ).lastrowid
    assert id is not None
    return Revocation(id=id, tenant=tenant, user=user, before=before)


def revocations(db: sqlite3.Connection, after: int, limit: int) -> list[Revocation]:
    rows = db.execute(
        "SELECT id, tenant_id, user_id, before FROM revocations WHERE id > ? ORDER BY id LIMIT ?",
        (after, limit),
    ).fetchall()
    return [Revocation(id=id, tenant=tenant, user=user, before=before) for id, tenant, user, before in rows]
