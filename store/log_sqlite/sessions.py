"""Sessions: made, read, changed, ended. Runs in a worker's thread."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from store.errors import Ended, LimitReached, NotFound, TakenOver, VersionConflict
from store.log_sqlite.connection import single
from store.log_sqlite.events import record
from store.types import Access, Act, Change, EndReason, Listing, NewSession, Session

_COLUMNS: Final = """
    sessions.id, sessions.tenant_id, sessions.user_id, sessions.title, sessions.status, sessions.exclusive,
    sessions.ttl, sessions.expires_at, sessions.head, sessions.epoch, sessions.version, sessions.context,
    sessions.metadata, sessions.text, sessions.voice, sessions.sentences, sessions.created_at,
    sessions.updated_at, sessions.ended_at, sessions.end_reason"""
_WIDTH: Final = _COLUMNS.count(",") + 1


def _select(rest: str) -> str:
    """A query for sessions: the columns of `_session` come first. No value of a caller's is in its text."""
    return f"SELECT {_COLUMNS}{rest}"


_GET: Final = _select(" FROM sessions WHERE id = ? AND tenant_id = ?")

_ACCESS: Final = _select(
    """, members.role
    FROM sessions JOIN members ON members.session_id = sessions.id AND members.user_id = ?
    WHERE sessions.id = ? AND sessions.tenant_id = ?"""
)

_LIST: Final = _select(
    """, members.role, coalesce(cursors.read, 0), sessions.last_at,
        coalesce(substr(messages.content, 1, 120), '')
    FROM members
    JOIN sessions ON sessions.id = members.session_id
    LEFT JOIN cursors ON cursors.session_id = members.session_id AND cursors.user_id = members.user_id
    LEFT JOIN messages ON messages.session_id = sessions.id AND messages.seq = sessions.head
    WHERE members.tenant_id = ? AND members.user_id = ? AND members.ended = 0
        AND (sessions.last_at, sessions.id) < (?, ?)
    ORDER BY sessions.last_at DESC, sessions.id DESC
    LIMIT ?"""
)
# Behind nothing: above every time there is.
_LATEST: Final = 2**63 - 1
_START: Final = (_LATEST, "")

_DUE: Final = _select(
    " FROM sessions WHERE ended_at IS NULL AND expires_at <= ? ORDER BY expires_at, id LIMIT ?"
)

_OWNED: Final = "SELECT count(*) FROM sessions WHERE tenant_id = ? AND user_id = ? AND ended_at IS NULL"

_INSERT: Final = """
    INSERT INTO sessions (id, tenant_id, user_id, title, kind, exclusive, ttl, expires_at, last_at,
        created_at, updated_at, voice, text, metadata, context)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_UPDATE: Final = """
    UPDATE sessions SET title = ?, context = ?, metadata = ?, sentences = ?, status = ?, version = ?,
        updated_at = ?, kind = ?, ttl = ?, expires_at = ?
    WHERE id = ?"""

_END: Final = "UPDATE sessions SET version = ?, updated_at = ?, ended_at = ?, end_reason = ? WHERE id = ?"

_EXTEND: Final = """
    UPDATE sessions SET expires_at = moved.expires_at
    FROM (SELECT key AS id, value AS expires_at FROM json_each(?)) AS moved
    WHERE sessions.id = moved.id AND sessions.ended_at IS NULL AND sessions.expires_at < moved.expires_at"""


# -- reading


def get(db: sqlite3.Connection, tenant: str, session: str) -> Session | None:
    """A session of a tenant."""
    rows = db.execute(_GET, (session, tenant)).fetchall()
    return _session(rows[0]) if rows else None


def access(db: sqlite3.Connection, tenant: str, session: str, user: str) -> Access | None:
    """A session as one of its members sees it."""
    rows = db.execute(_ACCESS, (user, session, tenant)).fetchall()
    return Access(session=_session(rows[0]), role=rows[0][_WIDTH]) if rows else None


def list_for(
    db: sqlite3.Connection, tenant: str, user: str, before: tuple[int, str] | None, limit: int
) -> list[Listing]:
    """A page of a user's sessions, latest first."""
    at, id = before or _START
    at = max(-_LATEST, min(at, _LATEST))
    rows = db.execute(_LIST, (tenant, user, at, id, max(0, limit))).fetchall()
    return [_listing(row) for row in rows]


def live(db: sqlite3.Connection, tenant: str, session: str) -> Session:
    """The session, to be changed; NotFound, Ended."""
    found = get(db, tenant, session)
    if found is None:
        raise NotFound("there is no such session")
    if found.end_reason is not None:
        raise Ended(found.end_reason)
    return found


# -- changing; in a transaction


def create(db: sqlite3.Connection, new: NewSession, limit: int) -> Session:
    """Store a session and its owner; LimitReached, VersionConflict."""
    known = db.execute("SELECT tenant_id, user_id, version FROM sessions WHERE id = ?", (new.id,)).fetchall()
    if known:
        return _created_before(db, new, *known[0])
    if single(db, _OWNED, new.tenant, new.owner) >= limit:
        raise LimitReached(limit)
    at = new.created_at
    expires_at = None if new.ttl_s is None else at + new.ttl_s * 1000
    kind = "persistent" if new.ttl_s is None else "temporary"
    row = (new.id, new.tenant, new.owner, new.title, kind, new.exclusive, new.ttl_s, expires_at, at, at, at)
    db.execute(_INSERT, (*row, new.voice, new.text, new.metadata.decode(), new.context.decode()))
    db.executemany(
        "INSERT INTO members (session_id, user_id, tenant_id, role, since) VALUES (?, ?, ?, ?, ?)",
        [(new.id, user, new.tenant, role, at) for user, role in ((new.owner, "owner"), *new.members)],
    )
    made = live(db, new.tenant, new.id)
    record(db, made, "created", Act(at=at, by=new.owner))
    return made


def _created_before(
    db: sqlite3.Connection, new: NewSession, tenant: str, owner: str, version: int
) -> Session:
    found = get(db, new.tenant, new.id)
    if found is None or (tenant, owner) != (new.tenant, new.owner):
        raise VersionConflict(version)
    return found


def update(
    db: sqlite3.Connection, tenant: str, session: str, change: Change, act: Act, expected_version: int | None
) -> Session:
    """Apply a change; NotFound, Ended, VersionConflict."""
    found = live(db, tenant, session)
    if expected_version is not None and expected_version != found.version:
        raise VersionConflict(found.version)
    wanted = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not None}
    if change.ttl_s is not None:
        wanted["ttl_s"] = change.ttl_s or None
        wanted["expires_at"] = act.at + change.ttl_s * 1000 if change.ttl_s else None
    changed = msgspec.structs.replace(found, **wanted, version=found.version + 1, updated_at=act.at)
    sentences = None if changed.sentences is None else changed.sentences.decode()
    documents = (changed.context.decode(), changed.metadata.decode(), sentences)
    life = ("persistent" if changed.ttl_s is None else "temporary", changed.ttl_s, changed.expires_at)
    db.execute(_UPDATE, (changed.title, *documents, changed.status, changed.version, act.at, *life, session))
    is_archived = changed.status == "archived" and found.status != "archived"
    record(db, changed, "archived" if is_archived else "updated", act)
    return changed


def touch(db: sqlite3.Connection, session: Session, act: Act) -> Session:
    """Count a change that stands outside the row itself (its members), and tell of it."""
    changed = msgspec.structs.replace(session, version=session.version + 1, updated_at=act.at)
    sql = "UPDATE sessions SET version = ?, updated_at = ? WHERE id = ?"
    db.execute(sql, (changed.version, act.at, session.id))
    record(db, changed, "updated", act)
    return changed


def end(db: sqlite3.Connection, tenant: str, session: str, reason: EndReason, act: Act) -> Session | None:
    """End a session that has not ended."""
    found = get(db, tenant, session)
    return None if found is None or found.ended_at is not None else _end(db, found, reason, act)


def expire_due(db: sqlite3.Connection, now: int, limit: int) -> list[Session]:
    """End the temporary sessions whose time is over, the most overdue first."""
    rows = db.execute(_DUE, (now, max(0, limit))).fetchall()
    return [_end(db, _session(row), "expired", Act(at=now)) for row in rows]


def _end(db: sqlite3.Connection, session: Session, reason: EndReason, act: Act) -> Session:
    ended = msgspec.structs.replace(
        session, version=session.version + 1, updated_at=act.at, ended_at=act.at, end_reason=reason
    )
    db.execute(_END, (ended.version, act.at, act.at, reason, session.id))
    db.execute("UPDATE members SET ended = 1 WHERE session_id = ?", (session.id,))
    record(db, ended, reason, act)
    return ended


def take_over(db: sqlite3.Connection, tenant: str, session: str, held: int | None = None) -> int:
    """Raise the epoch; NotFound, Ended, TakenOver."""
    present = live(db, tenant, session).epoch
    if held is not None and present != held:
        raise TakenOver(present)
    epoch = present + 1
    db.execute("UPDATE sessions SET epoch = ? WHERE id = ?", (epoch, session))
    return epoch


def extend(db: sqlite3.Connection, expiries: Mapping[str, int]) -> None:
    """Move expiries on."""
    db.execute(_EXTEND, (msgspec.json.encode(expiries).decode(),))


# -- rows


def _session(row: tuple[Any, ...]) -> Session:
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


def _listing(row: tuple[Any, ...]) -> Listing:
    session = _session(row)
    role, read, last_at, preview = row[_WIDTH:]
    unread = max(0, session.head - read)
    return Listing(session=session, role=role, read=read, unread=unread, last_at=last_at, preview=preview)
