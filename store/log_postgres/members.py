"""Who has a right in a session, and how far each has come in it."""

from collections.abc import Sequence
from typing import Final

from store.errors import NotFound
from store.log_postgres import keys
from store.log_postgres.connection import Connection
from store.log_postgres.found import COLUMNS
from store.log_postgres.sessions import changed
from store.log_postgres.statement import statement
from store.types import Act, Cursor, Mark, Member, Role, Session

_MEMBERS: Final = """
    SELECT wanted.place, member.*
    FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (id, place)
    CROSS JOIN LATERAL (
        SELECT user_id, role, since FROM members WHERE members.session_id = wanted.id
        ORDER BY since, user_id LIMIT ALL OFFSET 0
    ) AS member
    ORDER BY wanted.place, member.since, member.user_id
"""

_CURSORS: Final = """
    SELECT wanted.place, cursor.*
    FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (id, place)
    CROSS JOIN LATERAL (
        SELECT user_id, delivered, read FROM cursors WHERE cursors.session_id = wanted.id OFFSET 0
    ) AS cursor
    ORDER BY wanted.place, cursor.user_id
"""

_FOUND: Final = """
    WITH found AS (
        SELECT id, user_id, version, end_reason FROM sessions
        WHERE id = $2 AND tenant_id = $1 FOR NO KEY UPDATE
    )
"""

# A change that stands outside the row itself counts in it all the same, and is told.
_TOUCH: Final = statement(
    """
    , changed AS (
        UPDATE sessions SET version = sessions.version + 1, updated_at = $4::timestamptz FROM done
        WHERE sessions.id = done.id AND sessions.id = $2
        RETURNING <columns>
    ), told AS (
        INSERT INTO events (tenant_id, session_id, kind, version, at, actor)
        SELECT changed.tenant_id, changed.id, 'updated', changed.version, changed.updated_at, $5::text
        FROM changed
    )
    SELECT found.version AS present, found.end_reason AS ended, changed.* FROM found LEFT JOIN changed ON true
    """,
    columns=COLUMNS,
)

# The owner stays owner: nothing is written, but it counts as a change like any other.
_PUT: Final = statement(
    """
    <found>, put AS (
        INSERT INTO members (session_id, user_id, tenant_id, role, since)
        SELECT found.id, $3::text, $1, $6::text, $4::timestamptz FROM found
        WHERE found.end_reason IS NULL AND found.user_id <> $3
        ON CONFLICT (session_id, user_id) DO UPDATE SET role = excluded.role
    ), done AS (
        SELECT id FROM found WHERE end_reason IS NULL
    ) <touch>
    """,
    found=_FOUND,
    touch=_TOUCH,
)

_REMOVE: Final = statement(
    """
    <found>, done AS (
        DELETE FROM members USING found
        WHERE members.session_id = found.id AND members.session_id = $2 AND members.user_id = $3
            AND members.role <> 'owner'
            AND found.end_reason IS NULL
        RETURNING found.id
    ) <touch>
    """,
    found=_FOUND,
    touch=_TOUCH,
)

# A mark may be ahead of its session's head, by a client's mistake, but is never stored so. Zeros make no row.
# In the order of the key, so that no two nodes wait for each other.
_MARK: Final = """
    INSERT INTO cursors (session_id, user_id, delivered, read)
    SELECT mark.session_id, mark.user_id, least(mark.delivered, session.head), least(mark.read, session.head)
    FROM (
        SELECT session_id, user_id, max(delivered) AS delivered, max(read) AS read
        FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[])
            AS mark (session_id, user_id, delivered, read)
        GROUP BY session_id, user_id
    ) AS mark
    CROSS JOIN LATERAL (SELECT head FROM sessions WHERE sessions.id = mark.session_id LIMIT 1) AS session
    CROSS JOIN LATERAL (
        SELECT FROM members
        WHERE members.session_id = mark.session_id AND members.user_id = mark.user_id LIMIT 1
    ) AS member
    WHERE least(greatest(mark.delivered, mark.read), session.head) > 0
    ORDER BY mark.session_id, mark.user_id
    ON CONFLICT (session_id, user_id) DO UPDATE
    SET delivered = greatest(cursors.delivered, excluded.delivered),
        read = greatest(cursors.read, excluded.read)
    WHERE excluded.delivered > cursors.delivered OR excluded.read > cursors.read
"""


async def members(db: Connection, sessions: Sequence[str]) -> list[list[Member]]:
    """All members of each."""
    found: list[list[Member]] = [[] for _ in sessions]
    for place, user, role, since in await db.fetch(_MEMBERS, sessions):
        found[place - 1].append(Member(user=user, role=role, since=since))
    return found


async def cursors(db: Connection, sessions: Sequence[str]) -> list[list[Cursor]]:
    """Everybody's watermarks in each."""
    found: list[list[Cursor]] = [[] for _ in sessions]
    for place, user, delivered, read in await db.fetch(_CURSORS, sessions):
        found[place - 1].append(Cursor(user=user, delivered=delivered, read=read))
    return found


async def put_member(db: Connection, tenant: str, session: str, user: str, role: Role, act: Act) -> Session:
    """Add or change a member; NotFound, Ended."""
    return changed(await db.fetchrow(_PUT, tenant, session, user, act.at, act.by, role))


async def remove_member(db: Connection, tenant: str, session: str, user: str, act: Act) -> Session:
    """Remove a member who is not the owner; NotFound, Ended."""
    row = await db.fetchrow(_REMOVE, tenant, session, user, act.at, act.by)
    if row is not None and row["ended"] is None and row["id"] is None:
        raise NotFound("there is no such member, or it is the owner")
    return changed(row)


async def mark(db: Connection, marks: Sequence[Mark]) -> None:
    """Raise watermarks."""
    known = [mark for mark in marks if keys.is_id(mark.session) and keys.is_name(mark.user)]
    await db.execute(
        _MARK,
        [mark.session for mark in known],
        [mark.user for mark in known],
        [keys.seq(mark.delivered or 0) for mark in known],
        [keys.seq(mark.read or 0) for mark in known],
    )
