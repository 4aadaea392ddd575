"""Sessions, changed: made, updated, taken over, extended, ended. A change and its event are one statement."""

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg

from store.errors import Ended, LimitReached, NotFound, TakenOver, VersionConflict
from store.log_postgres import keys
from store.log_postgres.connection import Connection
from store.log_postgres.found import COLUMNS, WIDTH, session_of
from store.log_postgres.statement import statement
from store.types import Act, Change, EndReason, NewSession, Session

# Of two nodes that make sessions for one owner, the second counts when the first has committed.
_TURN: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))"

_CREATE: Final = statement(
    """
    WITH known AS (
        SELECT <columns> FROM sessions WHERE id = $1
    ), made AS (
        INSERT INTO sessions (id, tenant_id, user_id, title, kind, exclusive, ttl, expires_at, last_at,
            created_at, updated_at, voice, text, metadata, context)
        SELECT $1::uuid, $2, $3, $4, CASE WHEN $6::bigint IS NULL THEN 'persistent' ELSE 'temporary' END,
            $5::boolean, $6, $7::timestamptz, $8::timestamptz, $8, $8, $9, $10, $11::jsonb, $12::jsonb
        WHERE NOT EXISTS (SELECT FROM known) AND $13 > (
            SELECT count(*) FROM sessions WHERE tenant_id = $2 AND user_id = $3 AND ended_at IS NULL
        )
        RETURNING <columns>
    ), owner AS (
        INSERT INTO members (session_id, user_id, tenant_id, role, since)
        SELECT made.id, made.user_id, made.tenant_id, 'owner', made.created_at FROM made
        UNION ALL
        SELECT made.id, other.user_id, made.tenant_id, other.role, made.created_at
        FROM made CROSS JOIN unnest($14::text[], $15::text[]) AS other (user_id, role)
    ), told AS (
        INSERT INTO events (tenant_id, session_id, kind, version, at, actor)
        SELECT made.tenant_id, made.id, 'created', made.version, made.created_at, made.user_id FROM made
    )
    SELECT * FROM known UNION ALL SELECT * FROM made
    """,
    columns=COLUMNS,
)

# Behind the present row stands the changed one, with nothing in it when the change was refused.
_UPDATE: Final = statement(
    """
    WITH found AS (
        SELECT id, version, status, end_reason FROM sessions
        WHERE id = $2 AND tenant_id = $1 FOR NO KEY UPDATE
    ), changed AS (
        UPDATE sessions
        SET title = coalesce($3, title), context = coalesce($4::jsonb, context),
            metadata = coalesce($5::jsonb, metadata), status = coalesce($6, sessions.status),
            sentences = coalesce($10::jsonb, sentences),
            kind = CASE WHEN $11::bigint IS NULL THEN kind
                WHEN $11 = 0 THEN 'persistent' ELSE 'temporary' END,
            ttl = CASE WHEN $11 IS NULL THEN ttl ELSE nullif($11, 0) END,
            expires_at = CASE WHEN $11 IS NULL THEN expires_at ELSE $12::timestamptz END,
            version = sessions.version + 1, updated_at = $7::timestamptz
        FROM found
        WHERE sessions.id = found.id AND sessions.id = $2 AND found.end_reason IS NULL
            AND found.version = coalesce($8, found.version)
        RETURNING <columns>
    ), told AS (
        INSERT INTO events (tenant_id, session_id, kind, version, at, actor)
        SELECT changed.tenant_id, changed.id,
            CASE WHEN changed.status <> found.status AND changed.status = 'archived' THEN 'archived'
                ELSE 'updated' END,
            changed.version, changed.updated_at, $9::text
        FROM changed, found
    )
    SELECT found.version AS present, found.end_reason AS ended, changed.* FROM found LEFT JOIN changed ON true
    """,
    columns=COLUMNS,
)

# A member who joins in the same moment may be missed here: lists leave out what has ended in any case.
_ENDING: Final = statement(
    """
    , ended AS (
        UPDATE sessions
        SET version = version + 1, updated_at = $1::timestamptz, ended_at = $1, end_reason = $2
        FROM due WHERE sessions.id = due.id AND sessions.id = ANY (ARRAY(SELECT id FROM due))
        RETURNING <columns>
    ), unlisted AS (
        UPDATE members SET ended = true FROM due
        WHERE members.session_id = due.id AND members.session_id = ANY (ARRAY(SELECT id FROM due))
    ), told AS (
        INSERT INTO events (tenant_id, session_id, kind, version, at, actor)
        SELECT ended.tenant_id, ended.id, ended.end_reason, ended.version, ended.ended_at, $3::text FROM ended
    )
    """,
    columns=COLUMNS,
)

# Whether it has ended is asked behind the look-up: in it, the index of those that have not would be as good.
_END: Final = statement(
    """
    WITH found AS MATERIALIZED (
        SELECT id, ended_at FROM sessions WHERE tenant_id = $4 AND id = $5 FOR NO KEY UPDATE
    ), due AS (
        SELECT id FROM found WHERE ended_at IS NULL
    ) <ending>
    SELECT * FROM ended
    """,
    ending=_ENDING,
)

# What another node is ending or writing to just now is passed over: its time comes with the next sweep. It is
# not later than the database says: a node whose clock is fast must not end what others keep alive.
_EXPIRE: Final = statement(
    """
    WITH due AS (
        SELECT id FROM sessions
        WHERE ended_at IS NULL AND expires_at <= least($1::timestamptz, statement_timestamp())
        ORDER BY expires_at, id LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED
    ) <ending>
    SELECT * FROM ended ORDER BY expires_at, id
    """,
    ending=_ENDING,
)

_TAKE_OVER: Final = """
    WITH found AS (
        SELECT id, end_reason, epoch FROM sessions WHERE id = $2 AND tenant_id = $1 FOR NO KEY UPDATE
    ), taken AS (
        UPDATE sessions SET epoch = sessions.epoch + 1 FROM found
        WHERE sessions.id = found.id AND sessions.id = $2 AND found.end_reason IS NULL
            AND ($3::bigint IS NULL OR found.epoch = $3)
        RETURNING sessions.epoch
    )
    SELECT found.end_reason, found.epoch, taken.epoch FROM found LEFT JOIN taken ON true
"""

# Locked in the order of ids, as everybody does who needs several.
_EXTEND: Final = """
    WITH moved AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::timestamptz[]) AS moved (id, expires_at)
    ), locked AS MATERIALIZED (
        SELECT id, ended_at, expires_at FROM sessions WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE sessions SET expires_at = moved.expires_at
    FROM locked JOIN moved USING (id)
    WHERE sessions.id = locked.id AND sessions.id = ANY ($1)
        AND locked.ended_at IS NULL AND locked.expires_at < moved.expires_at
"""


async def create(db: Connection, new: NewSession, limit: int) -> Session:
    """Store a session and its owner; LimitReached, VersionConflict."""
    at = new.created_at
    expires_at = None if new.ttl_s is None else at + new.ttl_s * 1000
    row = (new.id, new.tenant, new.owner, new.title, new.exclusive, new.ttl_s, expires_at, at)
    documents = (new.metadata, new.context)
    members = ([user for user, _ in new.members], [role for _, role in new.members])
    async with db.transaction():
        await db.execute(_TURN, new.tenant, new.owner)
        stored = await db.fetchrow(_CREATE, *row, new.voice, new.text, *documents, keys.seq(limit), *members)
    if stored is None:
        raise LimitReached(limit)
    found = session_of(stored)
    if (found.tenant, found.owner) != (new.tenant, new.owner):
        raise VersionConflict(found.version)
    return found


async def update(
    db: Connection, tenant: str, session: str, change: Change, act: Act, expected_version: int | None
) -> Session:
    """Apply a change; NotFound, Ended, VersionConflict."""
    wanted = (change.title, change.context, change.metadata, change.status)
    row = await db.fetchrow(
        _UPDATE,
        tenant,
        session,
        *wanted,
        act.at,
        None if expected_version is None else keys.seq(expected_version),
        act.by,
        change.sentences,
        change.ttl_s,
        act.at + change.ttl_s * 1000 if change.ttl_s else None,
    )
    return changed(row)


def changed(row: asyncpg.Record | None) -> Session:
    """The session after a change, out of a row that has its present version and end before it."""
    if row is None:
        raise NotFound("there is no such session")
    version, end_reason = row[:2]
    if end_reason is not None:
        raise Ended(end_reason)
    if row[2] is None:
        raise VersionConflict(version)
    return session_of(row[2 : 2 + WIDTH])


async def end(db: Connection, tenant: str, session: str, reason: EndReason, act: Act) -> Session | None:
    """End a session that has not ended."""
    row = await db.fetchrow(_END, act.at, reason, act.by, tenant, session)
    return None if row is None else session_of(row)


async def expire_due(db: Connection, now: int, limit: int) -> list[Session]:
    """End the temporary sessions whose time is over, the most overdue first."""
    return [session_of(row) for row in await db.fetch(_EXPIRE, now, "expired", None, keys.rows(limit))]


async def take_over(db: Connection, tenant: str, session: str, held: int | None = None) -> int:
    """Raise the epoch; NotFound, Ended, TakenOver."""
    row = await db.fetchrow(_TAKE_OVER, tenant, session, held)
    if row is None:
        raise NotFound("there is no such session")
    end_reason, present, epoch = row
    if end_reason is not None:
        raise Ended(end_reason)
    if epoch is None:
        raise TakenOver(int(present))
    return int(epoch)


async def extend(db: Connection, expiries: Mapping[str, int]) -> None:
    """Move expiries on."""
    ids: Sequence[str] = sorted(expiries)
    await db.execute(_EXTEND, ids, [expiries[id] for id in ids])
