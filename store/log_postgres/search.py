"""The index of a search: blocks of messages under a GIN index of their grams."""

from collections.abc import Sequence
from typing import Final

from store.log_postgres import keys, messages
from store.log_postgres.connection import Connection
from store.log_postgres.database import Database
from store.matching import EVERY, key_of
from store.search import Block, Candidate, Place, Question, Range, Search
from store.types import Message

# Membership is asked here, so that nobody who asks can forget it.
_PLACES: Final = """
    SELECT member.session_id, session.head, coalesce(block.last_seq, 0)
    FROM (
        SELECT session_id FROM members
        WHERE tenant_id = $1 AND user_id = $2 AND NOT ended AND $3::uuid IS NULL
        UNION ALL
        SELECT session_id FROM members WHERE session_id = $3 AND user_id = $2 AND tenant_id = $1
    ) AS member
    CROSS JOIN LATERAL (
        SELECT head FROM sessions
        WHERE sessions.id = member.session_id
            AND CASE WHEN $3 IS NULL THEN ended_at IS NULL ELSE end_reason IS DISTINCT FROM 'deleted' END
        LIMIT 1
    ) AS session
    LEFT JOIN LATERAL (
        SELECT last_seq FROM search_blocks
        WHERE search_blocks.session_id = member.session_id ORDER BY first_seq DESC LIMIT 1
    ) AS block ON true
    WHERE session.head > 0
"""

# What two nodes index at the same time is the same, or the beginning of it.
_PUT: Final = """
    INSERT INTO search_blocks (session_id, first_seq, last_seq, newest, oldest, grams)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING
"""

# One look-up in the index for each session, of a gram of its own and those that are asked for: it costs what
# the session holds of the rarest of them, however large the table. Of a block that reaches beyond `before`
# the newest message is asked for that does not.
_CANDIDATES: Final = """
    SELECT block.newest, mine.session_id, block.first_seq, block.last_seq
    FROM unnest($1::uuid[], $2::integer[]) AS mine (session_id, key)
    CROSS JOIN LATERAL (
        SELECT first_seq, last_seq, CASE WHEN found.newest < $5::uuid THEN found.newest ELSE (
                SELECT id FROM (
                    SELECT id FROM messages WHERE messages.session_id = mine.session_id
                        AND seq BETWEEN found.first_seq AND found.last_seq OFFSET 0
                ) AS within WHERE id < $5 ORDER BY id DESC LIMIT 1
            ) END AS newest
        FROM (
            SELECT * FROM (
                SELECT session_id, first_seq, last_seq, newest, oldest FROM search_blocks
                WHERE grams @> array_append($3::integer[], mine.key) OFFSET 0
            ) AS holding
            UNION
            SELECT * FROM (
                SELECT session_id, first_seq, last_seq, newest, oldest FROM search_blocks
                WHERE grams @> array_append($4::integer[], mine.key) OFFSET 0
            ) AS full_of_grams
        ) AS found
        WHERE found.session_id = mine.session_id AND found.oldest < $5
        ORDER BY 3 DESC LIMIT $6
    ) AS block
    ORDER BY 1 DESC LIMIT $6
"""


class PostgresIndex:
    """As store.search.Index."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def places(self, search: Search) -> list[Place]:
        names = (search.tenant, search.user)
        if not all(map(keys.is_name, names)) or (search.session and not keys.is_id(search.session)):
            return []

        async def job(db: Connection) -> list[Place]:
            rows = await db.fetch(_PLACES, *names, search.session)
            return [Place(str(session), head, indexed) for session, head, indexed in rows]

        return await self._db.run("search", job, is_read=True)

    async def messages(self, ranges: Sequence[Range]) -> list[list[Message]]:
        pages = [messages.Page(*each) for each in ranges]
        return await self._db.run("search", lambda db: messages.read(db, pages), is_read=True)

    async def put(self, blocks: Sequence[Block]) -> None:
        # To do it twice is to do it once, so it may be tried again like a read.
        await self._db.run("index", lambda db: db.executemany(_PUT, blocks), is_read=True)

    async def candidates(self, question: Question) -> list[Candidate]:
        sessions = question.sessions
        place_keys = [key_of(session) for session in sessions]

        async def job(db: Connection) -> list[Candidate]:
            limits = (question.before, question.limit)
            rows = await db.fetch(_CANDIDATES, sessions, place_keys, question.grams, [EVERY], *limits)
            return [
                Candidate(str(newest), str(session), first, last) for newest, session, first, last in rows
            ]

        return await self._db.run("search", job, is_read=True)
