"""Sessions: made, read, changed, ended. All of it runs in a worker's thread; what changes something, in a transaction."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from store.errors import Ended, LimitReached, NotFound, VersionConflict
from store.log_sqlite.events import record
from store.types import Access, Change, EndReason, Listing, NewSession, Session

COLUMNS: Final = (
    "sessions.id, sessions.tenant_id, sessions.user_id, sessions.title, sessions.status, sessions.exclusive, sessions.ttl, "
    "sessions.expires_at, sessions.head, sessions.epoch, sessions.version, sessions.context, sessions.metadata, "
    "sessions.text, sessions.voice, sessions.sentences, sessions.created_at, sessions.updated_at, sessions.ended_at, "
    "sessions.end_reason"
)
_WIDTH: Final = COLUMNS.count(",") + 1


def to_session(row: tuple[Any, ...]) -> Session:
    """Make a session of a row that begins with COLUMNS."""
    return Session(
        id=row[0],
        tenant=row[1],
        owner=row[2],
        title=row[3],
        status=row[4],
        exclusive=bool(row[5]),
        ttl_s=row[6],
        expires_at=row[7],
        head=row[8],
        epoch=row[9],
        version=row[10],
        context=row[11].encode(),
        metadata=row[12].encode(),
        text=row[13],
        voice=row[14],
        sentences=None if row[15] is None else row[15].encode(),
        created_at=row[16],
        updated_at=row[17],
        ended_at=row[18],
        end_reason=row[19],
    )


# -- reading


def get(db: sqlite3.Connection, tenant: str, session: str) -> Session | None:
    row = db.execute(
        f"SELECT {COLUMNS} FROM sessions WHERE id = ? AND tenant_id = ?",
        (session, tenant),
    ).fetchone()
    return None if row is None else to_session(row)


def access(db: sqlite3.Connection, tenant: str, session: str, user: str) -> Access | None:
    row = db.execute(
        f"SELECT {COLUMNS}, members.role FROM sessions "
        "JOIN members ON members.session_id = sessions.id AND members.user_id = ? "
        "WHERE sessions.id = ? AND sessions.tenant_id = ?",
        (user, session, tenant),
    ).fetchone()
    return None if row is None else Access(session=to_session(row), role=row[_WIDTH])


_LIST: Final = f"""
    SELECT {COLUMNS}, members.role, coalesce(cursors.read, 0), sessions.last_at,
        coalesce((SELECT substr(content, 1, 120) FROM messages WHERE session_id = sessions.id AND seq = sessions.head), '')
    FROM members
    JOIN sessions ON sessions.id = members.session_id
    LEFT JOIN cursors ON cursors.session_id = members.session_id AND cursors.user_id = members.user_id
    WHERE members.tenant_id = ? AND members.user_id = ? AND members.ended = 0
        AND (sessions.last_at, sessions.id) < (?, ?)
    ORDER BY sessions.last_at DESC, sessions.id DESC
    LIMIT ?
"""
_LATEST: Final = (2**63 - 1, "")


def list_for(
    db: sqlite3.Connection, tenant: str, user: str, before: tuple[int, str] | None, limit: int
) -> list[Listing]:
    rows = db.execute(_LIST, (tenant, user, *(before or _LATEST), limit)).fetchall()
    return [
        Listing(
            session=(session := to_session(row)),
            role=row[_WIDTH],
            read=row[_WIDTH + 1],
            unread=max(0, session.head - row[_WIDTH + 1]),
            last_at=row[_WIDTH + 2],
            preview=row[_WIDTH + 3],
        )
        for row in rows
    ]


# -- changing


def live(db: sqlite3.Connection, tenant: str, session: str) -> Session:
    """The session, to be changed; NotFound, Ended."""
    found = get(db, tenant, session)
    if found is None:
        raise NotFound("there is no such session")
    if found.end_reason is not None:
        raise Ended(found.end_reason)
    return found


def create(db: sqlite3.Connection, new: NewSession, limit: int) -> Session:
    (owned,) = db.execute(
        "SELECT count(*) FROM sessions WHERE tenant_id = ? AND user_id = ? AND ended_at IS NULL",
        (new.tenant, new.owner),
    ).fetchone()
    if owned >= limit:
        raise LimitReached(limit)
    at = new.created_at
    expires_at = None if new.ttl_s is None else at + new.ttl_s * 1000
    kind = "persistent" if new.ttl_s is None else "temporary"
    db.execute(
        "INSERT INTO sessions (id, tenant_id, user_id, title, kind, exclusive, last_at, ttl, expires_at, created_at, updated_at, "
        "voice, text, metadata, context) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (new.id, new.tenant, new.owner, new.title, kind, new.exclusive, at, new.ttl_s, expires_at, at, at)
        + (new.voice, new.text, new.metadata.decode(), new.context.decode()),
    )
    db.execute(
        "INSERT INTO members (session_id, user_id, tenant_id, role, since) VALUES (?, ?, ?, 'owner', ?)",
        (new.id, new.owner, new.tenant, at),
    )
    made = live(db, new.tenant, new.id)
    record(db, made, "created", at)
    return made


def update(
    db: sqlite3.Connection, tenant: str, session: str, change: Change, now: int, expected_version: int | None
) -> Session:
    found = live(db, tenant, session)
    if expected_version is not None and expected_version != found.version:
        raise VersionConflict(found.version)
    changed = msgspec.structs.replace(
        found,
        title=found.title if change.title is None else change.title,
        context=found.context if change.context is None else change.context,
        metadata=found.metadata if change.metadata is None else change.metadata,
        status=found.status if change.status is None else change.status,
        version=found.version + 1,
        updated_at=now,
    )
    db.execute(
        "UPDATE sessions SET title = ?, context = ?, metadata = ?, status = ?, version = ?, updated_at = ? WHERE id = ?",
        (
            changed.title,
            changed.context.decode(),
            changed.metadata.decode(),
            changed.status,
            changed.version,
            now,
            session,
        ),
    )
    is_archived = changed.status == "archived" and found.status != "archived"
    record(db, changed, "archived" if is_archived else "updated", now)
    return changed


def touch(db: sqlite3.Connection, session: Session, now: int) -> Session:
    """Count a change that stands outside the row itself (its members), and tell of it."""
    changed = msgspec.structs.replace(session, version=session.version + 1, updated_at=now)
    db.execute(
        "UPDATE sessions SET version = ?, updated_at = ? WHERE id = ?", (changed.version, now, session.id)
    )
    record(db, changed, "updated", now)
    return changed


def end(db: sqlite3.Connection, tenant: str, session: str, reason: EndReason, now: int) -> Session | None:
    found = get(db, tenant, session)
    if found is None or found.end_reason is not None:
        return None
    return _end(db, found, reason, now)


def _end(db: sqlite3.Connection, session: Session, reason: EndReason, now: int) -> Session:
    ended = msgspec.structs.replace(
        session, version=session.version + 1, updated_at=now, ended_at=now, end_reason=reason
    )
    db.execute(
        "UPDATE sessions SET version = ?, updated_at = ?, ended_at = ?, end_reason = ? WHERE id = ?",
        (ended.version, now, now, reason, session.id),
    )
    db.execute("UPDATE members SET ended = 1 WHERE session_id = ?", (session.id,))
    record(db, ended, reason, now)
    return ended


def take_over(db: sqlite3.Connection, tenant: str, session: str) -> int:
    epoch = live(db, tenant, session).epoch + 1
    db.execute("UPDATE sessions SET epoch = ? WHERE id = ?", (epoch, session))
    return epoch


_EXTEND: Final = """
    UPDATE sessions SET expires_at = moved.expires_at
    FROM (SELECT key AS id, value AS expires_at FROM json_each(?)) AS moved
    WHERE sessions.id = moved.id AND sessions.ended_at IS NULL AND sessions.expires_at < moved.expires_at
"""


def extend(db: sqlite3.Connection, expiries: Mapping[str, int]) -> None:
    db.execute(_EXTEND, (msgspec.json.encode(expiries).decode(),))


def expire_due(db: sqlite3.Connection, now: int, limit: int) -> list[Session]:
    rows = db.execute(
        f"SELECT {COLUMNS} FROM sessions WHERE ended_at IS NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?",
        (now, limit),
    ).fetchall()
    return [_end(db, to_session(row), "expired", now) for row in rows]
