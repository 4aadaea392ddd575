"""The group commit: up to 512 drafts in a handful of statements, each of which works on the whole group."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from store.types import Appended, Draft, Refused

# Every step of a statement gives the interpreter lock away and has to get it back, against an event loop that may be
# busy all the time. So the group goes in and comes out as one JSON text: a few steps in all, instead of some for each draft.

_LOOK_UP: Final = """
    WITH draft AS (
        SELECT key AS ord, value ->> 0 AS session_id, value ->> 1 AS tenant_id, value ->> 2 AS sender, value ->> 3 AS client_id
        FROM json_each(?)
    )
    SELECT json_group_array(json_array(
        draft.ord, sessions.head, sessions.epoch, sessions.end_reason, members.role,
        messages.seq, messages.id, messages.created_at, messages.role, messages.content, messages.metadata
    ))
    FROM draft
    JOIN sessions ON sessions.id = draft.session_id AND sessions.tenant_id = draft.tenant_id
    JOIN members ON members.session_id = draft.session_id AND members.user_id = draft.sender
    LEFT JOIN messages ON messages.session_id = draft.session_id
        AND messages.sender = draft.sender AND messages.client_id = draft.client_id
"""

_INSERT: Final = """
    INSERT INTO messages (session_id, seq, id, sender, client_id, role, content, metadata, created_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8
    FROM json_each(?)
"""

_MOVE_HEADS: Final = """
    UPDATE sessions SET head = moved.head, last_at = moved.last_at
    FROM (SELECT value ->> 0 AS id, value ->> 1 AS head, value ->> 2 AS last_at FROM json_each(?)) AS moved
    WHERE sessions.id = moved.id
"""


class _Found(msgspec.Struct, array_like=True, frozen=True):
    """What the database knows of one draft: its session, its sender's role and, from `seq` on, the message under its ids."""

    ord: int
    head: int
    epoch: int
    end_reason: str | None
    role: str
    seq: int | None
    id: str | None
    created_at: int | None
    message_role: str | None
    content: str | None
    metadata: str | None


_decode_found: Final = msgspec.json.Decoder(list[_Found]).decode
_encode: Final = msgspec.json.Encoder().encode


def append(db: sqlite3.Connection, drafts: Sequence[Draft]) -> list[Appended | Refused]:
    """Store a group; to be called in a transaction."""
    group = _Group(_look_up(db, drafts))
    outcomes = [group.judge(ord, draft) for ord, draft in enumerate(drafts)]
    if group.rows:
        db.execute(_INSERT, (_encode(group.rows).decode(),))
        db.execute(_MOVE_HEADS, (_encode([(id, *moved) for id, moved in group.heads.items()]).decode(),))
    return outcomes


def _look_up(db: sqlite3.Connection, drafts: Sequence[Draft]) -> dict[int, _Found]:
    keys = _encode(
        [(draft.session, draft.tenant, draft.sender, draft.client_id) for draft in drafts]
    ).decode()
    (found,) = db.execute(_LOOK_UP, (keys,)).fetchone()
    return {row.ord: row for row in _decode_found(found)}


class _Group:
    """The drafts of one call: decides about each in turn, knowing those before it."""

    def __init__(self, found: dict[int, _Found]) -> None:
        self._found = found
        self._fresh: dict[tuple[str, str, str], tuple[Draft, Appended]] = {}
        self.heads: dict[str, tuple[int, int]] = {}  # session → head and the time of its message
        self.rows: list[tuple[Any, ...]] = []

    def judge(self, ord: int, draft: Draft) -> Appended | Refused:
        found = self._found.get(ord)
        if found is None:
            return Refused(code="not_found")
        if (known := self._known(found, draft)) is not None:
            return known
        if found.end_reason is not None:
            return Refused(code="expired" if found.end_reason == "expired" else "closed")
        if found.role == "reader":
            return Refused(code="forbidden")
        if draft.epoch is not None and draft.epoch < found.epoch:
            return Refused(code="superseded")
        return self._take(found, draft)

    def _known(self, found: _Found, draft: Draft) -> Appended | Refused | None:
        """The outcome of a draft whose ids are used, in the database or by an earlier draft of this group."""
        if found.seq is not None:
            assert found.id is not None and found.created_at is not None and found.metadata is not None
            stored = (found.message_role, found.content, found.metadata.encode())
            first = Appended(seq=found.seq, id=found.id, created_at=found.created_at)
        elif (fresh := self._fresh.get((draft.session, draft.sender, draft.client_id))) is not None:
            earlier, first = fresh
            stored = (earlier.role, earlier.content, earlier.metadata)
        else:
            return None
        if stored != (draft.role, draft.content, draft.metadata):
            return Refused(code="id_conflict")
        return Appended(seq=first.seq, id=first.id, created_at=first.created_at, duplicate=True)

    def _take(self, found: _Found, draft: Draft) -> Appended:
        head = self.heads[draft.session][0] if draft.session in self.heads else found.head
        appended = Appended(seq=head + 1, id=draft.id, created_at=draft.created_at)
        self.heads[draft.session] = (appended.seq, draft.created_at)
        self._fresh[draft.session, draft.sender, draft.client_id] = (draft, appended)
        self.rows.append(
            (
                draft.session,
                appended.seq,
                draft.id,
                draft.sender,
                draft.client_id,
                draft.role,
                draft.content,
                draft.metadata.decode(),
                draft.created_at,
            )
        )
        return appended
