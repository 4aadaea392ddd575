"""The index of a search: blocks of messages under an FTS5 index of their grams."""

import sqlite3
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol, TypeVar

from store.log_sqlite import messages
from store.log_sqlite.connection import snapshot
from store.log_sqlite.worker import Job
from store.matching import EVERY, key_of
from store.search import Block, Candidate, Place, Question, Range, Search
from store.types import Message

T = TypeVar("T")


class Run(Protocol):
    """How the log has a job done; counted as `kind`."""

    def __call__(self, kind: str, job: Job[T], /) -> Awaitable[T]: ...


# Membership is asked here, so that nobody who asks can forget it.
_PLACES: Final = """
    SELECT members.session_id, sessions.head, coalesce(block.last_seq, 0)
    FROM members
    JOIN sessions ON sessions.id = members.session_id
    LEFT JOIN search_blocks AS block ON block.id = (
        SELECT id FROM search_blocks
        WHERE search_blocks.session_id = members.session_id ORDER BY first_seq DESC LIMIT 1
    )
    WHERE members.tenant_id = :tenant AND members.user_id = :user AND sessions.head > 0 AND <scope>
"""
_ALL: Final = _PLACES.replace("<scope>", "members.ended = 0 AND sessions.ended_at IS NULL")
_ONE: Final = _PLACES.replace(
    "<scope>", "members.session_id = :session AND sessions.end_reason IS NOT 'deleted'"
)

_ADD: Final = """
    INSERT INTO search_blocks (session_id, first_seq, last_seq, newest, oldest) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING RETURNING id"""
_INDEX: Final = "INSERT INTO search_grams (rowid, grams) VALUES (?, ?)"

# Of a block that reaches beyond `before` the newest message is asked for that does not.
_CANDIDATES: Final = """
    SELECT CASE WHEN newest < :before THEN newest ELSE (
            SELECT max(id) FROM messages
            WHERE messages.session_id = :session AND seq BETWEEN first_seq AND last_seq AND +id < :before
        ) END AS latest, session_id, first_seq, last_seq
    FROM (SELECT rowid AS found FROM search_grams WHERE search_grams MATCH :grams)
    CROSS JOIN search_blocks ON search_blocks.id = found
    WHERE session_id = :session AND oldest < :before
    ORDER BY latest DESC LIMIT :limit
"""


class SqliteIndex:
    """As store.search.Index."""

    def __init__(self, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def places(self, search: Search) -> list[Place]:
        return await self._read("search", lambda db: _places(db, search))

    async def messages(self, ranges: Sequence[Range]) -> list[list[Message]]:
        return await self._read("search", lambda db: [messages.read(db, *each) for each in ranges])

    async def put(self, blocks: Sequence[Block]) -> None:
        def job(db: sqlite3.Connection) -> None:
            for block in blocks:
                _put(db, block)

        await self._write("index", job)

    async def candidates(self, question: Question) -> list[Candidate]:
        return await self._read("search", lambda db: _candidates(db, question))


def _places(db: sqlite3.Connection, search: Search) -> list[Place]:
    sql = _ALL if search.session is None else _ONE
    names = {"tenant": search.tenant, "user": search.user, "session": search.session}
    return [Place(*row) for row in db.execute(sql, names).fetchall()]


def _put(db: sqlite3.Connection, block: Block) -> None:
    *row, grams = block
    for (id,) in db.execute(_ADD, row).fetchall():
        db.execute(_INDEX, (id, " ".join(map(_word, grams))))


def _candidates(db: sqlite3.Connection, question: Question) -> list[Candidate]:
    asked = " AND ".join(map(_word, question.grams))
    found: list[Candidate] = []
    with snapshot(db):
        for session in question.sessions:
            values = {
                "grams": f"{_word(key_of(session))} AND ({_word(EVERY)} OR ({asked}))",
                "session": session,
                "before": question.before,
                "limit": question.limit,
            }
            found += [Candidate(*row) for row in db.execute(_CANDIDATES, values).fetchall()]
    return sorted(found, reverse=True)[: question.limit]


def _word(gram: int) -> str:
    # Letters and digits alone: no word of FTS5's language.
    return f"g{gram + 2**31:x}"
