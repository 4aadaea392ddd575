"""Messages read back, many pages in one statement; and where sessions stand."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg

from store.log_postgres import keys
from store.log_postgres.connection import Connection
from store.types import Message, Standing, Tally

# No ORDER BY for the whole: it would copy every message once more. A page is in order as its index is.
_READ: Final = """
    SELECT page.place, message.*
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[])
        WITH ORDINALITY AS page (session_id, after, most, place)
    CROSS JOIN LATERAL (
        SELECT session_id, seq, id, client_id, sender, role, content, metadata, created_at
        FROM messages WHERE messages.session_id = page.session_id AND messages.seq > page.after
        ORDER BY messages.seq LIMIT page.most
    ) AS message
"""
_READ_BEFORE: Final = """
    SELECT page.place, message.*
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[])
        WITH ORDINALITY AS page (session_id, before, most, place)
    CROSS JOIN LATERAL (
        SELECT session_id, seq, id, client_id, sender, role, content, metadata, created_at
        FROM messages WHERE messages.session_id = page.session_id AND messages.seq < page.before
        ORDER BY messages.seq DESC LIMIT page.most
    ) AS message
"""
_STANDINGS: Final = """
    SELECT id, head, version, epoch, end_reason FROM sessions WHERE id = ANY ($1::uuid[])
"""
# The ids in one text, made once: as an array of as many texts they would cost the node 0.9 µs each, every
# time, and the server 0.4 µs less (`python -m loadtest.comparing`, 18,000 rooms).
_TALLY: Final = """
    SELECT count(*), coalesce(sum(head + version + epoch), 0)::bigint
    FROM sessions WHERE id = ANY ($1::text::uuid[])
"""


class Page(NamedTuple):
    """Which messages are wanted: `limit` of them, behind or before a position."""

    session: str
    position: int
    limit: int


async def read(db: Connection, pages: Sequence[Page]) -> list[list[Message]]:
    """Pages that begin behind a seq."""
    return await _read(db, _READ, pages)


async def read_before(db: Connection, pages: Sequence[Page]) -> list[list[Message]]:
    """Pages that end before a seq."""
    return await _read(db, _READ_BEFORE, pages)


async def standings(db: Connection, sessions: Sequence[str]) -> dict[str, Standing]:
    """Where those sessions that exist stand."""
    rows = await db.fetch(_STANDINGS, sessions)
    return {
        str(id): Standing(head=head, version=version, epoch=epoch, end_reason=end_reason)
        for id, head, version, epoch, end_reason in rows
    }


def ids(sessions: Sequence[str]) -> str:
    """Ids as `tally` takes them: as Postgres writes an array."""
    return "{" + ",".join(sessions) + "}"


async def tally(db: Connection, ids: str) -> Tally:
    """The sums over those sessions that exist."""
    ((count, steps),) = await db.fetch(_TALLY, ids)
    return Tally(sessions=count, steps=steps)


async def _read(db: Connection, sql: str, pages: Sequence[Page]) -> list[list[Message]]:
    sessions, positions, limits = zip(*pages, strict=True)
    found: list[list[Message]] = [[] for _ in pages]
    for row in await db.fetch(
        sql, sessions, [keys.seq(number) for number in positions], [keys.rows(limit) for limit in limits]
    ):
        found[row[0] - 1].append(_message(row))
    for page in found:
        page.sort(key=lambda message: message.seq)
    return found


def _message(row: asyncpg.Record) -> Message:
    return Message(
        session=str(row[1]),
        seq=row[2],
        id=str(row[3]),
        client_id=row[4],
        sender=row[5],
        role=row[6],
        content=row[7],
        metadata=row[8],
        created_at=row[9],
    )
