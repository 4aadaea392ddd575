"""Sessions, found: by id, by member, by user; many in one statement."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from store.log_postgres import keys
from store.log_postgres.connection import Connection
from store.log_postgres.statement import statement
from store.types import Access, Listing, Session

COLUMNS: Final = """
    sessions.id, sessions.tenant_id, sessions.user_id, sessions.title, sessions.status, sessions.exclusive,
    sessions.ttl, sessions.expires_at, sessions.head, sessions.epoch, sessions.version, sessions.context,
    sessions.metadata, sessions.text, sessions.voice, sessions.sentences, sessions.created_at,
    sessions.updated_at, sessions.ended_at, sessions.end_reason"""
WIDTH: Final = COLUMNS.count(",") + 1

# LATERAL with LIMIT: one look-up by index for each question, whatever the planner makes of the tables.
_GET: Final = statement(
    """
    SELECT wanted.place, session.*
    FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS wanted (id, tenant_id, place)
    CROSS JOIN LATERAL (
        SELECT <columns> FROM sessions
        WHERE sessions.id = wanted.id AND sessions.tenant_id = wanted.tenant_id LIMIT 1
    ) AS session
    """,
    columns=COLUMNS,
)

_ACCESS: Final = statement(
    """
    SELECT wanted.place, session.*, member.role
    FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (id, tenant_id, user_id, place)
    CROSS JOIN LATERAL (
        SELECT role FROM members
        WHERE members.session_id = wanted.id AND members.user_id = wanted.user_id LIMIT 1
    ) AS member
    CROSS JOIN LATERAL (
        SELECT <columns> FROM sessions
        WHERE sessions.id = wanted.id AND sessions.tenant_id = wanted.tenant_id LIMIT 1
    ) AS session
    """,
    columns=COLUMNS,
)

# Read markers and previews are fetched for those rows alone that are in the page.
_LIST: Final = statement(
    """
    SELECT wanted.place, listed.*, coalesce(cursor.read, 0), coalesce(message.preview, '')
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::uuid[], $5::bigint[])
        WITH ORDINALITY AS wanted (tenant_id, user_id, before_at, before_id, most, place)
    CROSS JOIN LATERAL (
        SELECT <columns>, member.role, sessions.last_at
        FROM (
            SELECT session_id, role FROM members
            WHERE members.tenant_id = wanted.tenant_id AND members.user_id = wanted.user_id
                AND NOT members.ended
            OFFSET 0
        ) AS member
        CROSS JOIN LATERAL (
            SELECT * FROM sessions WHERE sessions.id = member.session_id LIMIT 1
        ) AS sessions
        WHERE sessions.ended_at IS NULL
            AND (sessions.last_at, sessions.id) < (wanted.before_at, wanted.before_id)
        ORDER BY sessions.last_at DESC, sessions.id DESC
        LIMIT wanted.most
    ) AS listed
    LEFT JOIN LATERAL (
        SELECT cursors.read FROM cursors
        WHERE cursors.session_id = listed.id AND cursors.user_id = wanted.user_id LIMIT 1
    ) AS cursor ON true
    LEFT JOIN LATERAL (
        -- There is none behind it; in this order the index of seqs is the one that fits.
        SELECT left(content, 120) AS preview FROM messages
        WHERE messages.session_id = listed.id AND messages.seq >= listed.head
        ORDER BY messages.seq LIMIT 1
    ) AS message ON true
    ORDER BY wanted.place, listed.last_at DESC, listed.id DESC
    """,
    columns=COLUMNS,
)

# Behind nothing: later than every time there is.
_START: Final = (2**62, keys.LAST_ID)


class Wanted(NamedTuple):
    """A session of a tenant."""

    session: str
    tenant: str


class WantedBy(NamedTuple):
    """A session of a tenant, as a user sees it."""

    session: str
    tenant: str
    user: str


class ListPage(NamedTuple):
    """A page of a user's sessions."""

    tenant: str
    user: str
    before: tuple[int, str] | None
    limit: int


async def get(db: Connection, wanted: Sequence[Wanted]) -> list[Session | None]:
    """Sessions of tenants."""
    found: list[Session | None] = [None] * len(wanted)
    for row in await db.fetch(_GET, *zip(*wanted, strict=True)):
        found[row[0] - 1] = session_of(row[1:])
    return found


async def access(db: Connection, wanted: Sequence[WantedBy]) -> list[Access | None]:
    """Sessions as their members see them."""
    found: list[Access | None] = [None] * len(wanted)
    for row in await db.fetch(_ACCESS, *zip(*wanted, strict=True)):
        found[row[0] - 1] = Access(session=session_of(row[1:]), role=row[-1])
    return found


async def list_for(db: Connection, pages: Sequence[ListPage]) -> list[list[Listing]]:
    """Pages of users' sessions, latest first."""
    starts = [page.before or _START for page in pages]
    found: list[list[Listing]] = [[] for _ in pages]
    rows = await db.fetch(
        _LIST,
        [page.tenant for page in pages],
        [page.user for page in pages],
        [at for at, _ in starts],
        # What is no id stands before all ids, as it would in any order of texts that begins with digits.
        [id if keys.is_id(id) else keys.FIRST_ID for _, id in starts],
        [keys.rows(page.limit) for page in pages],
    )
    for row in rows:
        found[row[0] - 1].append(_listing(row[1:]))
    return found


def session_of(row: Any) -> Session:
    """A session out of a row that begins with `COLUMNS`."""
    return Session(
        id=str(row[0]),
        tenant=row[1],
        owner=row[2],
        title=row[3],
        status=row[4],
        exclusive=row[5],
        ttl_s=row[6],
        expires_at=row[7],
        head=row[8],
        epoch=row[9],
        version=row[10],
        context=row[11],
        metadata=row[12],
        text=row[13],
        voice=row[14],
        sentences=row[15],
        created_at=row[16],
        updated_at=row[17],
        ended_at=row[18],
        end_reason=row[19],
    )


def _listing(row: Any) -> Listing:
    session = session_of(row)
    role, last_at, read, preview = row[WIDTH:]
    unread = max(0, session.head - read)
    return Listing(session=session, role=role, read=read, unread=unread, last_at=last_at, preview=preview)
