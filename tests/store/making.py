"""Sessions and drafts with everything filled in that a test does not care about."""

import itertools
from typing import Any, Final

import uuid_utils

from store.log import Log
from store.types import Appended, Attendance, AttendanceKind, ConnectionEntry, Draft, NewSession, Session

NOW: Final = 1_750_000_000_000

_counter = itertools.count(1)


def new_id() -> str:
    return str(uuid_utils.uuid7())


def new_session(**given: Any) -> NewSession:
    """A persistent session of alice's in tenant t."""
    filled: dict[str, Any] = {"id": new_id(), "tenant": "t", "owner": "alice", "created_at": NOW}
    return NewSession(**(filled | given))


def draft(session: Session | str, **given: Any) -> Draft:
    """A fresh message of alice's."""
    number = next(_counter)
    filled: dict[str, Any] = {
        "session": session if isinstance(session, str) else session.id,
        "tenant": "t",
        "sender": "alice",
        "id": new_id(),
        "client_id": f"c{number}",
        "role": "user",
        "content": f"message {number}",
        "metadata": b"{}",
        "created_at": NOW + number,
    }
    return Draft(**(filled | given))


def entry(id: str = "c1", **given: Any) -> ConnectionEntry:
    """A connection of alice's on node n1."""
    filled: dict[str, Any] = {"id": id, "tenant": "t", "user": "alice", "node": "n1", "since": NOW}
    return ConnectionEntry(**(filled | given))


def attendance(session: str, kind: AttendanceKind = "joined", **given: Any) -> Attendance:
    """A coming of bob's in tenant t."""
    filled: dict[str, Any] = {
        "key": new_id(),
        "tenant": "t",
        "session": session,
        "user": "bob",
        "kind": kind,
        "at": NOW,
    }
    return Attendance(**(filled | given))


async def opened(log: Log, **given: Any) -> Session:
    """A stored session; no limit."""
    return await log.create(new_session(**given), limit=1_000_000)


async def appended(log: Log, *drafts: Draft) -> list[Appended]:
    """Append drafts that must all be stored."""
    outcomes = await log.append(drafts)
    stored = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
    assert len(stored) == len(drafts), outcomes
    return stored
