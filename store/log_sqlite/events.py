"""The outbox of session events, and the revocations: two lists whose ids only grow."""

import sqlite3
from typing import Any, Final

from store.log_sqlite.connection import single, snapshot
from store.types import Act, Event, EventKind, EventPage, Revocation, Session

_EVENTS: Final = """
    SELECT id, tenant_id, session_id, kind, version, at, actor, data FROM events
    WHERE id > ? ORDER BY id LIMIT ?"""

_OF_TENANT: Final = """
    SELECT id, tenant_id, session_id, kind, version, at, actor, data FROM events
    WHERE tenant_id = ? AND id > ? ORDER BY id LIMIT ?"""

_BEHIND: Final = "SELECT count(*) FROM (SELECT 1 FROM events WHERE id > ? LIMIT ?)"

_LARGEST: Final = 2**63 - 1


def record(db: sqlite3.Connection, session: Session, kind: EventKind, act: Act) -> None:
    """Write what happened to a session into the outbox, in the transaction in which it happens."""
    db.execute(
        "INSERT INTO events (tenant_id, session_id, kind, version, at, actor) VALUES (?, ?, ?, ?, ?, ?)",
        (session.tenant, session.id, kind, session.version, act.at, act.by),
    )


def events(db: sqlite3.Connection, after: int, limit: int) -> list[Event]:
    """Events behind an id."""
    return [_event(row) for row in db.execute(_EVENTS, (_id(after), max(0, limit))).fetchall()]


def events_of(db: sqlite3.Connection, tenant: str, after: int, limit: int) -> EventPage:
    """Those of one tenant, and what is gone of all."""
    with snapshot(db):
        rows = db.execute(_OF_TENANT, (tenant, _id(after), max(0, limit))).fetchall()
        purged: int = single(db, "SELECT purged FROM outbox WHERE one = 1")
    return EventPage(events=[_event(row) for row in rows], purged=purged)


def events_behind(db: sqlite3.Connection, after: int, limit: int) -> int:
    """How many there are behind an id."""
    count: int = single(db, _BEHIND, _id(after), max(0, limit))
    return count


def _event(row: tuple[Any, ...]) -> Event:
    id, tenant, session, kind, version, at, actor, data = row
    return Event(
        id=id,
        tenant=tenant,
        session=session,
        kind=kind,
        version=version,
        at=at,
        actor=actor,
        data=data.encode(),
    )


def _id(number: int) -> int:
    """The same position, or the nearest that fits into 64 bits."""
    return max(-_LARGEST, min(number, _LARGEST))


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
