"""The outbox of session events, and the revocations: two lists whose ids only grow."""

from collections.abc import Iterable
from typing import Any, Final

import asyncpg

from store.log_postgres import keys
from store.log_postgres.connection import Connection
from store.types import Event, EventPage, Revocation

_EVENTS: Final = """
    SELECT id, tenant_id, session_id, kind, version, at, actor, data FROM events
    WHERE id > $1 ORDER BY id LIMIT $2
"""

# By pairs, so that only the index of tenants fits, and in one statement, since both have to be of one moment.
_OF_TENANT: Final = """
    SELECT outbox.purged, event.*
    FROM outbox LEFT JOIN LATERAL (
        SELECT id, tenant_id, session_id, kind, version, at, actor, data FROM events
        WHERE (tenant_id, id) > ($1, $2) AND (tenant_id, id) <= ($1, 9223372036854775807)
        ORDER BY tenant_id, id LIMIT $3
    ) AS event ON true
    WHERE outbox.one
    ORDER BY event.id
"""

_BEHIND: Final = """
    SELECT (SELECT count(*) FROM (SELECT FROM events WHERE id > $1 ORDER BY id LIMIT $2) AS numbered)
        + (SELECT count(*) FROM (SELECT FROM events WHERE id IS NULL ORDER BY position LIMIT $2) AS fresh)
"""

# Advisory locks are numbers that a whole database shares: this one begins with the bytes of "gate".
_NUMBERING: Final = 0x6761_7465_0000_0001
_REVOKING: Final = 0x6761_7465_0000_0002

# As many at a time, so that no transaction grows with a backlog.
NUMBERED_AT_ONCE: Final = 1_000

_IS_ANY_UNNUMBERED: Final = "SELECT EXISTS (SELECT FROM events WHERE id IS NULL)"
_WAIT: Final = "SELECT pg_advisory_xact_lock($1)"
_NUMBER: Final = """
    WITH fresh AS MATERIALIZED (
        SELECT position, nextval('event_ids') AS id
        FROM (SELECT position FROM events WHERE id IS NULL ORDER BY position LIMIT $1) AS ordered
    )
    UPDATE events SET id = fresh.id FROM fresh
    WHERE events.position = fresh.position AND events.position = ANY (ARRAY(SELECT position FROM fresh))
"""

# The lock comes before the id, and is held until COMMIT: ids grow in the order in which they can be seen.
_REVOKE: Final = """
    WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock($1))
    INSERT INTO revocations (tenant_id, user_id, before) SELECT $2, $3, $4 FROM turn RETURNING id
"""

_REVOCATIONS: Final = """
    SELECT id, tenant_id, user_id, before FROM revocations WHERE id > $1 ORDER BY id LIMIT $2
"""


async def events(db: Connection, after: int, limit: int) -> list[Event]:
    """Events behind an id."""
    start, most = keys.seq(after), keys.rows(limit)
    is_any_new = True
    rows: list[asyncpg.Record] = []
    while len(rows) < most and is_any_new:
        # In this order: what another reader numbers while we look was not there when we read.
        is_any_new = await number(db)
        rows = await db.fetch(_EVENTS, start, most)
    return [_event(row) for row in rows]


async def events_of(db: Connection, tenant: str, after: int, limit: int) -> EventPage:
    """Those of one tenant, and what is gone of all."""
    start, most = keys.seq(after), keys.rows(limit)
    is_any_new = True
    rows: list[asyncpg.Record] = []
    while len(rows) < max(1, most) and is_any_new:
        is_any_new = await number(db)
        rows = await db.fetch(_OF_TENANT, tenant, start, most)
    return EventPage(events=[_event(row[1:]) for row in rows if row[1] is not None], purged=rows[0][0])


async def events_behind(db: Connection, after: int, limit: int) -> int:
    """How many there are behind an id, those without one included."""
    return int(await db.fetchval(_BEHIND, keys.seq(after), keys.rows(limit)))


def _event(row: Iterable[Any]) -> Event:
    id, tenant, session, kind, version, at, actor, data = row
    return Event(
        id=id,
        tenant=tenant,
        session=str(session),
        kind=kind,
        version=version,
        at=at,
        actor=actor,
        data=data,
    )


async def number(db: Connection) -> bool:
    """Give ids to events that have none; whether there were any, though others may have been faster."""
    if not await db.fetchval(_IS_ANY_UNNUMBERED):
        return False
    # What commits while we number has its turn after us, and gets a higher number.
    async with db.transaction():
        await db.execute(_WAIT, _NUMBERING)
        await db.execute(_NUMBER, NUMBERED_AT_ONCE)
    return True


async def revoke(db: Connection, tenant: str, user: str, before: int) -> Revocation:
    """Store a revocation."""
    id = await db.fetchval(_REVOKE, _REVOKING, tenant, user, before)
    return Revocation(id=id, tenant=tenant, user=user, before=before)


async def revocations(db: Connection, after: int, limit: int) -> list[Revocation]:
    """Revocations behind an id."""
    rows = await db.fetch(_REVOCATIONS, keys.seq(after), keys.rows(limit))
    return [Revocation(id=id, tenant=tenant, user=user, before=before) for id, tenant, user, before in rows]
