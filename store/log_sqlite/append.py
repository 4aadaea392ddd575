"""The group commit: up to 512 drafts are looked up in one statement, judged in turn and stored together."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from store.log_sqlite.connection import single
from store.types import Appended, Draft, Message, Refused

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
    """The message that has the draft's session, sender and client id already."""

    seq: int
    id: str
    created_at: int
    role: str
    content: str
    metadata: str


class _Found(msgspec.Struct, array_like=True, frozen=True):
    """What the database knows of one draft: its session, its sender's role, and whether its ids are used."""

    place: int
    head: int
    epoch: int
    end_reason: str | None
    role: str
    is_id_used: int
    first: _First | None


_decode: Final = msgspec.json.Decoder(list[_Found]).decode
_encode: Final = msgspec.json.Encoder().encode


def append(db: sqlite3.Connection, drafts: Sequence[Draft]) -> list[Appended | Refused]:
    """Store a group; to be called in a transaction."""
    group = _Group(_look_up(db, drafts))
    outcomes = [group.judge(place, draft) for place, draft in enumerate(drafts)]
    db.executemany(_INSERT, group.rows)
    db.executemany(_MOVE_HEAD, [(*moved, session) for session, moved in group.heads.items()])
    return outcomes


def _look_up(db: sqlite3.Connection, drafts: Sequence[Draft]) -> dict[int, _Found]:
    keys = [(draft.session, draft.tenant, draft.sender, draft.client_id, draft.id) for draft in drafts]
    return {row.place: row for row in _decode(single(db, _LOOK_UP, _encode(keys).decode()))}


class _Group:
    """The drafts of one call: decides about each in turn, knowing those before it."""

    def __init__(self, found: dict[int, _Found]) -> None:
        self._found = found
        self._fresh: dict[tuple[str, str, str], Message] = {}
        self._ids: set[str] = set()
        self.heads: dict[str, tuple[int, int]] = {}  # session → its head, and the time of that message
        self.rows: list[tuple[Any, ...]] = []

    def judge(self, place: int, draft: Draft) -> Appended | Refused:
        """Decide about a draft; the order of the questions is the promise of `Log.append`."""
        found = self._found.get(place)
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
        return self._take(found.head, draft)

    def _known(self, found: _Found, draft: Draft) -> Appended | Refused | None:
        """The outcome of a draft whose ids are used, in the database or by an earlier one of this group."""
        first: _First | Message | None = found.first
        if first is None:
            first = self._fresh.get((draft.session, draft.sender, draft.client_id))
        if first is None:
            is_used = found.is_id_used or draft.id in self._ids
            return Refused(code="id_conflict") if is_used else None
        stored = first.metadata if isinstance(first.metadata, bytes) else first.metadata.encode()
        if (first.role, first.content, stored) != (draft.role, draft.content, draft.metadata):
            return Refused(code="id_conflict")
        return Appended(seq=first.seq, id=first.id, created_at=first.created_at, duplicate=True)

    def _take(self, stored_head: int, draft: Draft) -> Appended:
        head, _ = self.heads.get(draft.session, (stored_head, 0))
        seq = head + 1
        self.heads[draft.session] = (seq, draft.created_at)
        self._ids.add(draft.id)
        self._fresh[draft.session, draft.sender, draft.client_id] = Message(
            session=draft.session,
            seq=seq,
            id=draft.id,
            client_id=draft.client_id,
            sender=draft.sender,
            role=draft.role,
            content=draft.content,
            metadata=draft.metadata,
            created_at=draft.created_at,
        )
        row = (draft.session, seq, draft.id, draft.sender, draft.client_id, draft.role, draft.created_at)
        self.rows.append((*row, draft.metadata.decode(), draft.content))
        return Appended(seq=seq, id=draft.id, created_at=draft.created_at)
