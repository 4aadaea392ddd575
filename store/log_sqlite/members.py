"""Who has a right in a session, and how far each has come in it."""

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from store.errors import NotFound
from store.log_sqlite.sessions import live, touch
from store.types import Act, Cursor, Mark, Member, Role, Session


def members(db: sqlite3.Connection, session: str) -> list[Member]:
    """All members."""
    rows = db.execute(
        "SELECT user_id, role, since FROM members WHERE session_id = ? ORDER BY since, user_id", (session,)
    ).fetchall()
    return [Member(user=user, role=role, since=since) for user, role, since in rows]


def put_member(db: sqlite3.Connection, tenant: str, session: str, user: str, role: Role, act: Act) -> Session:
    """Add or change a member; NotFound, Ended."""
    found = live(db, tenant, session)
    if user != found.owner:
        db.execute(
            "INSERT INTO members (session_id, user_id, tenant_id, role, since) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (session_id, user_id) DO UPDATE SET role = excluded.role",
            (session, user, tenant, role, act.at),
        )
    return touch(db, found, act)


def remove_member(db: sqlite3.Connection, tenant: str, session: str, user: str, act: Act) -> Session:
    """Remove a member who is not the owner; NotFound, Ended."""
    found = live(db, tenant, session)
    gone = db.execute(
        "DELETE FROM members WHERE session_id = ? AND user_id = ? AND role <> 'owner'", (session, user)
    )
    if gone.rowcount == 0:
        raise NotFound("there is no such member, or it is the owner")
    return touch(db, found, act)


# A mark may be ahead of its session's head, by a client's mistake, but is never stored so. Zeros make no row.
_MARK: Final = """
    INSERT INTO cursors (session_id, user_id, delivered, read)
    SELECT sessions.id, members.user_id, min(mark.delivered, sessions.head), min(mark.read, sessions.head)
    FROM (
        SELECT
            json_extract(value, '$[0]') AS session_id,
            json_extract(value, '$[1]') AS user_id,
            json_extract(value, '$[2]') AS delivered,
            json_extract(value, '$[3]') AS read
        FROM json_each(?)
    ) AS mark
    JOIN sessions ON sessions.id = mark.session_id
    JOIN members ON members.session_id = sessions.id AND members.user_id = mark.user_id
    WHERE min(max(mark.delivered, mark.read), sessions.head) > 0
    ON CONFLICT (session_id, user_id) DO UPDATE
    SET delivered = max(delivered, excluded.delivered), read = max(read, excluded.read)
    WHERE excluded.delivered > delivered OR excluded.read > read
"""


def mark(db: sqlite3.Connection, marks: Sequence[Mark]) -> None:
    """Raise watermarks."""
    rows = [(mark.session, mark.user, mark.delivered or 0, mark.read or 0) for mark in marks]
    db.execute(_MARK, (msgspec.json.encode(rows).decode(),))


def cursors(db: sqlite3.Connection, session: str) -> list[Cursor]:
    """Everybody's watermarks."""
    rows = db.execute(
        "SELECT user_id, delivered, read FROM cursors WHERE session_id = ? ORDER BY user_id", (session,)
    ).fetchall()
    return [Cursor(user=user, delivered=delivered, read=read) for user, delivered, read in rows]
