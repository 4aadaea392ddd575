"""The group commit: one statement that looks up, locks, judges, numbers and stores up to 512 drafts.

It judges each draft by itself. Where drafts of one group carry the same ids, they are judged one after the
other by store.judging, in a transaction of a few statements.
"""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from store.judging import First, Found, Group
from store.log_postgres import keys
from store.log_postgres.connection import Connection
from store.log_postgres.faults import is_of_values
from store.log_postgres.statement import statement
from store.types import Appended, Draft, Refused

_INVALID: Final = Refused(code="invalid")
_NOT_FOUND: Final = Refused(code="not_found")

# One look-up by index for each draft (LATERAL, LIMIT): joined otherwise, the planner may read all messages.
_LOOK_UP: Final = """
    LEFT JOIN LATERAL (
        SELECT role FROM members
        WHERE members.session_id = draft.session_id AND members.user_id = draft.sender LIMIT 1
    ) AS member ON true
    LEFT JOIN LATERAL (
        SELECT seq, id, created_at, messages.role = draft.role AND messages.content = draft.content
            AND messages.metadata = draft.metadata AS is_equal
        FROM messages WHERE messages.session_id = draft.session_id AND messages.sender = draft.sender
            AND messages.client_id = draft.client_id LIMIT 1
    ) AS first ON true
    LEFT JOIN LATERAL (SELECT seq FROM messages WHERE messages.id = draft.id LIMIT 1) AS same_id ON true
"""

# Whoever needs several sessions locks them in the order of their ids: no two wait for each other. A locked
# row is the present one; all else is as old as the statement. So a session whose version has changed in
# between (`is_stale`) stops the whole group, which then locks first and comes again; and a message that was
# stored in between is found by its unique ids: the statement fails, and comes again.
_APPEND: Final = statement(
    """
    WITH draft AS MATERIALIZED (
        SELECT * FROM unnest(
            $1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
            $9::timestamptz[], $10::bigint[]
        ) WITH ORDINALITY AS draft (
            session_id, tenant_id, sender, id, client_id, role, content, metadata, created_at, epoch, place
        )
    ), locked AS MATERIALIZED (
        SELECT id, tenant_id, head, epoch, version, end_reason FROM sessions
        WHERE id = ANY ($11::uuid[]) ORDER BY id FOR NO KEY UPDATE
    ), seen AS MATERIALIZED (
        SELECT id, version FROM sessions WHERE id = ANY ($11)
    ), stale AS MATERIALIZED (
        SELECT count(*) > 0 AS is_stale FROM locked LEFT JOIN seen USING (id)
        WHERE locked.version IS DISTINCT FROM seen.version
    ), judged AS MATERIALIZED (
        SELECT draft.place, locked.id AS session_id, locked.head,
            first.seq AS first_seq, first.id AS first_id, first.created_at AS first_at,
            CASE
                WHEN stale.is_stale THEN 'stale'
                WHEN locked.id IS NULL OR member.role IS NULL THEN 'not_found'
                WHEN first.is_equal THEN 'duplicate'
                WHEN first.seq IS NOT NULL OR same_id.seq IS NOT NULL THEN 'id_conflict'
                WHEN locked.end_reason = 'expired' THEN 'expired'
                WHEN locked.end_reason IS NOT NULL THEN 'closed'
                WHEN member.role = 'reader' THEN 'forbidden'
                WHEN draft.epoch < locked.epoch THEN 'superseded'
                ELSE 'fresh'
            END AS verdict
        FROM draft
        CROSS JOIN stale
        LEFT JOIN locked ON locked.id = draft.session_id AND locked.tenant_id = draft.tenant_id
        <look_up>
    ), numbered AS MATERIALIZED (
        SELECT judged.*, head
            + count(*) FILTER (WHERE verdict = 'fresh') OVER (PARTITION BY session_id ORDER BY place) AS seq
        FROM judged
    ), stored AS (
        INSERT INTO messages (session_id, seq, id, created_at, sender, client_id, role, metadata, content)
        SELECT draft.session_id, seq, id, created_at, sender, client_id, role, metadata, content
        FROM draft JOIN numbered USING (place) WHERE verdict = 'fresh'
    ), moved AS (
        UPDATE sessions SET head = latest.seq, last_at = latest.created_at
        FROM (
            SELECT DISTINCT ON (numbered.session_id) numbered.session_id, seq, created_at
            FROM numbered JOIN draft USING (place) WHERE verdict = 'fresh'
            ORDER BY numbered.session_id, seq DESC
        ) AS latest
        -- Said twice, so that its rows are found by their ids whatever way the planner joins.
        WHERE sessions.id = latest.session_id AND sessions.id = ANY ($11)
    )
    SELECT verdict, seq, first_seq, first_id, first_at FROM numbered ORDER BY place
    """,
    look_up=_LOOK_UP,
)

_LOCK: Final = "SELECT FROM sessions WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"

_FIND: Final = statement(
    """
    SELECT draft.place, session.head, session.epoch, session.end_reason, member.role, same_id.seq IS NOT NULL,
        first.seq, first.id, first.created_at, coalesce(first.is_equal, false)
    FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::jsonb[]
    ) WITH ORDINALITY AS draft (
        session_id, tenant_id, sender, id, client_id, role, content, metadata, place
    )
    CROSS JOIN LATERAL (
        SELECT head, epoch, end_reason FROM sessions
        WHERE sessions.id = draft.session_id AND sessions.tenant_id = draft.tenant_id LIMIT 1
    ) AS session
    <look_up>
    WHERE member.role IS NOT NULL
    """,
    look_up=_LOOK_UP,
)

_STORE: Final = """
    WITH moved AS (
        UPDATE sessions SET head = latest.head, last_at = latest.at
        FROM unnest($10::uuid[], $11::bigint[], $12::timestamptz[]) AS latest (id, head, at)
        WHERE sessions.id = latest.id AND sessions.id = ANY ($10)
    )
    INSERT INTO messages (session_id, seq, id, created_at, sender, client_id, role, metadata, content)
    SELECT * FROM unnest(
        $1::uuid[], $2::bigint[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
        $8::jsonb[], $9::text[]
    )
"""


async def append(db: Connection, drafts: Sequence[Draft]) -> list[Appended | Refused]:
    """Store a group."""
    known = [draft for draft in drafts if keys.is_id(draft.session) and keys.is_id(draft.id)]
    try:
        outcomes = iter(await _commit(db, known))
    except asyncpg.PostgresError as error:
        if not is_of_values(error):
            raise
        # Somebody sent what cannot be stored. The others must not suffer for it. All sessions are locked
        # before the group is parted: its halves are in no order.
        async with db.transaction():
            await db.execute(_LOCK, _sessions(known))
            outcomes = iter(await _without_guilty(db, known))
    if len(known) == len(drafts):
        return list(outcomes)
    return [_unknown(draft) or next(outcomes) for draft in drafts]


def _unknown(draft: Draft) -> Refused | None:
    if not keys.is_id(draft.session):
        return _NOT_FOUND
    return None if keys.is_id(draft.id) else _INVALID


async def _commit(db: Connection, drafts: Sequence[Draft]) -> list[Appended | Refused]:
    if not drafts:
        return []
    if _is_any_id_repeated(drafts):
        return await _in_turn(db, drafts)
    return await _at_once(db, drafts)


def _is_any_id_repeated(drafts: Sequence[Draft]) -> bool:
    named = {(draft.session, draft.sender, draft.client_id) for draft in drafts}
    return len(named) < len(drafts) or len({draft.id for draft in drafts}) < len(drafts)


async def _without_guilty(db: Connection, drafts: Sequence[Draft]) -> list[Appended | Refused]:
    """Halve the group until those that cannot be stored are alone; all in one transaction."""
    try:
        async with db.transaction():
            return await _commit(db, drafts)
    except asyncpg.PostgresError as error:
        if not is_of_values(error):
            raise
    if len(drafts) == 1:
        return [_INVALID]
    half = len(drafts) // 2
    return [*await _without_guilty(db, drafts[:half]), *await _without_guilty(db, drafts[half:])]


# -- each by itself, in one statement


async def _at_once(db: Connection, drafts: Sequence[Draft]) -> list[Appended | Refused]:
    arguments, sessions = _arguments(drafts), _sessions(drafts)
    rows = await db.fetch(_APPEND, *arguments, sessions)
    while rows[0][0] == "stale":
        # Locked beforehand they are as the statement sees them, however many others wait to change them. Not
        # so a session that is made and changed in this very moment: for that once more.
        async with db.transaction():
            await db.execute(_LOCK, sessions)
            rows = await db.fetch(_APPEND, *arguments, sessions)
    return [_outcome(draft, row) for draft, row in zip(drafts, rows, strict=True)]


def _arguments(drafts: Sequence[Draft]) -> list[list[Any]]:
    return [
        [draft.session for draft in drafts],
        [draft.tenant for draft in drafts],
        [draft.sender for draft in drafts],
        [draft.id for draft in drafts],
        [draft.client_id for draft in drafts],
        [draft.role for draft in drafts],
        [draft.content for draft in drafts],
        [draft.metadata for draft in drafts],
        [draft.created_at for draft in drafts],
        [draft.epoch for draft in drafts],
    ]


def _sessions(drafts: Sequence[Draft]) -> list[str]:
    return sorted({draft.session for draft in drafts})


def _outcome(draft: Draft, row: asyncpg.Record) -> Appended | Refused:
    verdict, seq, first_seq, first_id, first_at = row
    if verdict == "fresh":
        return Appended(seq=seq, id=draft.id, created_at=draft.created_at)
    if verdict == "duplicate":
        return Appended(seq=first_seq, id=str(first_id), created_at=first_at, duplicate=True)
    return Refused(code=verdict)


# -- one after the other


async def _in_turn(db: Connection, drafts: Sequence[Draft]) -> list[Appended | Refused]:
    async with db.transaction():
        await db.execute(_LOCK, _sessions(drafts))
        rows = await db.fetch(_FIND, *_arguments(drafts)[:8])
        group = Group({row[0] - 1: _found(row) for row in rows})
        outcomes = [group.judge(place, draft) for place, draft in enumerate(drafts)]
        if group.fresh:
            await _store(db, group)
    return outcomes


def _found(row: asyncpg.Record) -> Found:
    _, head, epoch, end_reason, role, is_id_used, seq, id, created_at, is_equal = row
    first = None if seq is None else First(seq, str(id), created_at, is_equal)
    return Found(head, epoch, end_reason, role, is_id_used, first)


async def _store(db: Connection, group: Group) -> None:
    drafts = [draft for _, draft in group.fresh]
    sessions, _, senders, ids, client_ids, roles, contents, metadata, times, _ = _arguments(drafts)
    await db.execute(
        _STORE,
        *(
            sessions,
            [seq for seq, _ in group.fresh],
            ids,
            times,
            senders,
            client_ids,
            roles,
            metadata,
            contents,
        ),
        list(group.heads),
        [head for head, _ in group.heads.values()],
        [at for _, at in group.heads.values()],
    )
