"""What is done with the events as a whole: joins and leaves noted, old ones purged, delivery held."""

from collections.abc import Sequence
from typing import Final

from store.log_postgres import keys
from store.log_postgres.connection import Connection
from store.log_postgres.events import number
from store.outbox import last_overdue
from store.types import Attendance, Purged

_NOTE: Final = """
    INSERT INTO events (tenant_id, session_id, kind, version, at, actor, key, data)
    SELECT noted.tenant_id, noted.session_id, noted.kind, session.version, noted.at, noted.actor, noted.key,
        noted.data
    FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::uuid[], $7::jsonb[])
        WITH ORDINALITY AS noted (tenant_id, session_id, kind, at, actor, key, data, place)
    CROSS JOIN LATERAL (
        SELECT version, tenant_id FROM sessions WHERE sessions.id = noted.session_id LIMIT 1
    ) AS session
    WHERE session.tenant_id = noted.tenant_id
    ORDER BY noted.place
    ON CONFLICT (key) WHERE key IS NOT NULL DO NOTHING
"""

_STATE: Final = "SELECT purged, delivered, statement_timestamp() FROM outbox WHERE one FOR UPDATE"
_FIRST: Final = "SELECT id, at, position FROM events WHERE id > $1 ORDER BY id LIMIT $2"
_PURGE: Final = """
    WITH gone AS (
        DELETE FROM events WHERE position = ANY ($1::bigint[]) RETURNING id
    ), told AS (
        UPDATE outbox SET purged = $2 WHERE one
    )
    SELECT count(*), count(*) FILTER (WHERE id > $3) FROM gone
"""

# By the clock of the server: no node's own decides whose turn it is. Nothing is written for who has to wait.
# A lease that ends later than any is given for is from before that clock was put back, or another server's.
_IS_FREE: Final = """(holder = $1 OR held_until <= statement_timestamp()
    OR held_until > statement_timestamp() + interval '10 minutes')"""
_HOLD: Final = f"""
    UPDATE outbox SET
        delivered = greatest(delivered, $2),
        holder = CASE WHEN {_IS_FREE} THEN $1 ELSE holder END,
        held_until = CASE WHEN {_IS_FREE}
            THEN statement_timestamp() + make_interval(secs => $3::double precision) ELSE held_until END
    WHERE one AND ({_IS_FREE} OR delivered < $2)
    RETURNING holder, delivered
"""  # noqa: S608 - its own words only


async def note(db: Connection, attendances: Sequence[Attendance]) -> None:
    """Write joins and leaves."""
    known = [each for each in attendances if keys.is_id(each.session) and keys.is_name(each.user)]
    await db.execute(
        _NOTE,
        [each.tenant for each in known],
        [each.session for each in known],
        [each.kind for each in known],
        [each.at for each in known],
        [each.user for each in known],
        [each.key for each in known],
        [each.data for each in known],
    )


async def purge(db: Connection, before: int, now: int, limit: int) -> Purged:
    """Delete the first events, as far as their time is over."""
    # What nobody has read has no id yet, and nothing could be said of where it was when it is gone. Also what
    # is young gets its own, so that whoever reads for the first time finds no backlog.
    is_any_new = await number(db)
    async with db.transaction():
        ((purged, delivered, servers_now),) = await db.fetch(_STATE)
        # A node whose clock is fast must not delete what the others keep.
        fast_ms = max(0, now - servers_now)
        rows = await db.fetch(_FIRST, purged, keys.rows(limit))
        last = last_overdue([(id, at) for id, at, _ in rows], before - fast_ms, now - fast_ms)
        if last is None:
            return Purged(events=0, undelivered=0, is_done=not is_any_new)
        places = [position for id, _, position in rows if id <= last]
        ((gone, undelivered),) = await db.fetch(_PURGE, places, last, delivered)
    is_done = not is_any_new and (last != rows[-1][0] or len(rows) < limit)
    return Purged(events=gone, undelivered=undelivered, is_done=is_done)


async def hold(db: Connection, node: str, delivered: int, lease_ms: int) -> int | None:
    """Be the one node that delivers."""
    row = await db.fetchrow(_HOLD, node, keys.seq(delivered), lease_ms / 1000)
    return None if row is None or row[0] != node else int(row[1])
