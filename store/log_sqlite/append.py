"""The group commit: up to 512 drafts are looked up in one statement, judged in turn and stored together."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from store.documents import are_equal
from store.judging import First, Found, Group
from store.log_sqlite.connection import single
from store.types import Appended, Draft, EndReason, Refused, Role

# The group goes in and comes out as one JSON text, so that the look-up is one step for all drafts instead
# of one for each. Safe to act upon until COMMIT: the transaction holds the write lock already.
_LOOK_UP: Final = """
    WITH draft AS (
        SELECT key AS place,
            json_extract(value, '$[0]') AS session_id,
            json_extract(value, '$[1]') AS tenant_id,
            json_extract(value, '$[2]') AS sender,
            json_extract(value, '$[3]') AS client_id,
            json_extract(value, '$[4]') AS id
        FROM json_each(?)
    )
    SELECT json_group_array(json_array(
        draft.place, sessions.head, sessions.epoch, sessions.end_reason, members.role,
        same_id.seq IS NOT NULL,
        json(CASE WHEN first.seq IS NOT NULL
            THEN json_array(first.seq, first.id, first.created_at, first.role, first.content, first.metadata)
        END)
    ))
    FROM draft
    JOIN sessions ON sessions.id = draft.session_id AND sessions.tenant_id = draft.tenant_id
    JOIN members ON members.session_id = draft.session_id AND members.user_id = draft.sender
    LEFT JOIN messages AS first ON first.session_id = draft.session_id
        AND first.sender = draft.sender AND first.client_id = draft.client_id
    LEFT JOIN messages AS same_id ON same_id.id = draft.id
"""

_INSERT: Final = """
    INSERT INTO messages (session_id, seq, id, sender, client_id, role, created_at, metadata, content)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_MOVE_HEAD: Final = "UPDATE sessions SET head = ?, last_at = ? WHERE id = ?"


class _First(msgspec.Struct, array_like=True, frozen=True):
    seq: int
    id: str
    created_at: int
    role: str
    content: str
    metadata: str


class _Row(msgspec.Struct, array_like=True, frozen=True):
    place: int
    head: int
    epoch: int
    end_reason: EndReason | None
    role: Role
    is_id_used: int
    first: _First | None


_decode: Final = msgspec.json.Decoder(list[_Row]).decode
_encode: Final = msgspec.json.Encoder().encode


def append(db: sqlite3.Connection, drafts: Sequence[Draft]) -> list[Appended | Refused]:
    """Store a group; to be called in a transaction."""
    storable = {place: draft for place, draft in enumerate(drafts) if _is_storable(draft)}
    group = Group(_look_up(db, storable, drafts))
    outcomes = [
        group.judge(place, draft) if place in storable else Refused(code="invalid")
        for place, draft in enumerate(drafts)
    ]
    db.executemany(_INSERT, [_row(seq, draft) for seq, draft in group.fresh])
    db.executemany(_MOVE_HEAD, [(*moved, session) for session, moved in group.heads.items()])
    return outcomes


def _is_storable(draft: Draft) -> bool:
    """Whether there is a form of it in UTF-8: not of a lone surrogate, nor of bytes that are none."""
    try:
        if not draft.metadata.isascii():
            draft.metadata.decode()
        for text in (draft.content, draft.client_id, draft.sender, draft.tenant):
            if not text.isascii():
                text.encode()
    except UnicodeError:
        return False
    return True


def _look_up(db: sqlite3.Connection, storable: dict[int, Draft], drafts: Sequence[Draft]) -> dict[int, Found]:
    places = list(storable)
    keys = [
        (draft.session, draft.tenant, draft.sender, draft.client_id, draft.id) for draft in storable.values()
    ]
    rows = _decode(single(db, _LOOK_UP, _encode(keys).decode()))
    return {places[row.place]: _found(row, drafts[places[row.place]]) for row in rows}


def _found(row: _Row, draft: Draft) -> Found:
    first = None if row.first is None else _first(row.first, draft)
    return Found(row.head, row.epoch, row.end_reason, row.role, bool(row.is_id_used), first)


def _first(first: _First, draft: Draft) -> First:
    is_equal = (first.role, first.content) == (draft.role, draft.content)
    same = is_equal and are_equal(first.metadata.encode(), draft.metadata)
    return First(first.seq, first.id, first.created_at, same)


def _row(seq: int, draft: Draft) -> tuple[Any, ...]:
    row = (draft.session, seq, draft.id, draft.sender, draft.client_id, draft.role, draft.created_at)
    return (*row, draft.metadata.decode(), draft.content)
