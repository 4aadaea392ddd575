"""What is done with the events as a whole: joins and leaves noted, old ones purged, delivery held."""

import sqlite3
import time
from collections.abc import Sequence
from typing import Final

from store.log_sqlite.connection import single
from store.outbox import last_overdue
from store.types import Attendance, Purged

_NOTE: Final = """
    INSERT INTO events (tenant_id, session_id, kind, version, at, actor, key, data)
    SELECT tenant_id, id, ?, version, ?, ?, ?, ? FROM sessions WHERE id = ? AND tenant_id = ?
    ON CONFLICT (key) WHERE key IS NOT NULL DO NOTHING"""

_FIRST: Final = "SELECT id, at FROM events WHERE id > ? ORDER BY id LIMIT ?"
_UNDELIVERED: Final = "SELECT count(*) FROM events WHERE id > ? AND id <= ?"

# Nobody holds a turn for as long as this: a lease that ends later is from before a clock was put back.
_MOST_LEASE_MS: Final = 600_000
_HOLD: Final = """
    UPDATE outbox SET holder = ?, held_until = ?
    WHERE one = 1 AND (holder = ? OR held_until <= ? OR held_until > ?)
    RETURNING delivered"""

_DELIVERED: Final = "UPDATE outbox SET delivered = ? WHERE one = 1 AND delivered < ?"


def note(db: sqlite3.Connection, attendances: Sequence[Attendance]) -> None:
    """Write joins and leaves."""
    db.executemany(
        _NOTE,
        [
            (each.kind, each.at, each.user, each.key, each.data.decode(), each.session, each.tenant)
            for each in attendances
        ],
    )


def purge(db: sqlite3.Connection, before: int, now: int, limit: int) -> Purged:
    """Delete the first events, as far as their time is over."""
    purged, delivered = db.execute("SELECT purged, delivered FROM outbox WHERE one = 1").fetchone()
    rows = db.execute(_FIRST, (purged, max(0, limit))).fetchall()
    last = last_overdue(rows, before, now)
    if last is None:
        return Purged(events=0, undelivered=0, is_done=True)
    undelivered: int = single(db, _UNDELIVERED, max(purged, delivered), last)
    gone = db.execute("DELETE FROM events WHERE id > ? AND id <= ?", (purged, last)).rowcount
    db.execute("UPDATE outbox SET purged = ? WHERE one = 1", (last,))
    return Purged(events=gone, undelivered=undelivered, is_done=last != rows[-1][0] or len(rows) < limit)


def hold(db: sqlite3.Connection, node: str, delivered: int, lease_ms: int) -> int | None:
    """Be the one node that delivers."""
    db.execute(_DELIVERED, (delivered, delivered))
    now = time.time_ns() // 1_000_000
    rows = db.execute(_HOLD, (node, now + lease_ms, node, now, now + _MOST_LEASE_MS)).fetchall()
    return rows[0][0] if rows else None
