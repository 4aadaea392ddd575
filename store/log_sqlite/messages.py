"""Messages read back, and where their sessions stand."""

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from store.log_sqlite.connection import single
from store.types import Message, MessageRole, Standing, Tally

# A page comes as one JSON text, in one step: with a step for each row a page takes 2.4 times as long beside
# a busy event loop, since every step gives the interpreter lock away and has to win it back
# (docs/storage.md).
_READ: Final = """
    SELECT json_group_array(json_array(seq, id, client_id, sender, role, content, metadata, created_at))
    FROM (SELECT * FROM messages WHERE session_id = ? AND seq > ? ORDER BY seq LIMIT ?)
"""
_READ_BEFORE: Final = """
    SELECT json_group_array(json_array(seq, id, client_id, sender, role, content, metadata, created_at))
    FROM (SELECT * FROM messages WHERE session_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?)
"""
_STANDINGS: Final = """
    SELECT json_group_object(sessions.id, json_object(
        'head', sessions.head, 'version', sessions.version, 'epoch', sessions.epoch,
        'end_reason', sessions.end_reason
    ))
    FROM json_each(?) AS wanted JOIN sessions ON sessions.id = wanted.value
"""
# IN, and no join: a session that is named twice counts once.
_TALLY: Final = """
    SELECT count(*), coalesce(sum(head + version + epoch), 0)
    FROM sessions WHERE id IN (SELECT value FROM json_each(?))
"""


class _Row(msgspec.Struct, array_like=True, frozen=True):
    seq: int
    id: str
    client_id: str
    sender: str
    role: MessageRole
    content: str
    metadata: str
    created_at: int


_decode: Final = msgspec.json.Decoder(list[_Row]).decode
_decode_standings: Final = msgspec.json.Decoder(dict[str, Standing]).decode


def read(db: sqlite3.Connection, session: str, after: int, limit: int) -> list[Message]:
    """A page that begins behind a seq."""
    rows = _decode(single(db, _READ, session, after, max(0, limit)))
    return [_message(session, row) for row in rows]


def read_before(db: sqlite3.Connection, session: str, before: int, limit: int) -> list[Message]:
    """A page that ends before a seq."""
    rows = _decode(single(db, _READ_BEFORE, session, before, max(0, limit)))
    return [_message(session, row) for row in reversed(rows)]


def standings(db: sqlite3.Connection, sessions: Sequence[str]) -> dict[str, Standing]:
    """Where those sessions that exist stand."""
    return _decode_standings(single(db, _STANDINGS, msgspec.json.encode(sessions).decode()))


def ids(sessions: Sequence[str]) -> str:
    """Ids as `tally` takes them."""
    return msgspec.json.encode(sessions).decode()


def tally(db: sqlite3.Connection, ids: str) -> Tally:
    """The sums over those sessions that exist."""
    ((count, steps),) = db.execute(_TALLY, (ids,)).fetchall()
    return Tally(sessions=count, steps=steps)


def _message(session: str, row: _Row) -> Message:
    return Message(
        session=session,
        seq=row.seq,
        id=row.id,
        client_id=row.client_id,
        sender=row.sender,
        role=row.role,
        content=row.content,
        metadata=row.metadata.encode(),
        created_at=row.created_at,
    )
