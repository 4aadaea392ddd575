"""What the gateway says: one function for each server frame that makes its bytes.

`ts` and `now` of a heartbeat are integer milliseconds, every other time is RFC 3339. A reply repeats the `id`
of its request and has none when the request had none.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

from gateway.errors import ErrorCode
from gateway.protocol import shapes
from gateway.protocol.close import RETRYABLE
from gateway.protocol.codec import Fragment, encode
from gateway.protocol.lifecycle import State
from gateway.protocol.limits import Limits
from gateway.protocol.shapes import HeartbeatSession as HeartbeatSession
from gateway.protocol.shapes import MigrateReason as MigrateReason
from gateway.protocol.shapes import SessionEventName as SessionEventName
from store.types import EMPTY_OBJECT, Access, Change, Message


class WelcomeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a welcome tells. `now` is epoch ms."""

    connection: str
    user: str
    tenant: str
    node: str
    resume: str
    resumed: bool
    interval_ms: int
    timeout_ms: int
    limits: Limits
    now: int
    id: str | None = None  # of the hello


def rfc3339(at: int) -> str:
    """Write epoch ms as RFC 3339 in UTC with milliseconds."""
    return f"{_second(at // 1000)}.{at % 1000:03d}Z"


@lru_cache(maxsize=256)
def _second(at_s: int) -> str:
    # Messages of one second share it; a page of history rarely spans more than a few hundred.
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _reply(frame: Mapping[str, object], id: str | None) -> bytes:
    return encode(frame if id is None else {**frame, "id": id})


# -- the conversation


def welcome(facts: WelcomeFacts) -> bytes:
    """Answer a hello."""
    frame: shapes.Welcome = {
        "type": "welcome",
        "connection": facts.connection,
        "user": facts.user,
        "tenant": facts.tenant,
        "node": facts.node,
        "resume": facts.resume,
        "resumed": facts.resumed,
        "heartbeat": {"interval_ms": facts.interval_ms, "timeout_ms": facts.timeout_ms},
        "limits": msgspec.structs.asdict(facts.limits),
        "now": rfc3339(facts.now),
    }
    return _reply(frame, facts.id)


def heartbeat(id: str | None, ts: int, now: int, sessions: Mapping[str, HeartbeatSession]) -> bytes:
    """Answer a heartbeat with its own `ts`."""
    frame: shapes.HeartbeatReply = {"type": "heartbeat", "ts": ts, "now": now, "sessions": sessions}
    return _reply(frame, id)


def migrate(slot_ms: int, deadline_ms: int, url: str | None, reason: MigrateReason) -> bytes:
    """Ask the client to open its next socket, to `url` or to the address it knows."""
    frame: shapes.Migrate = {
        "type": "migrate",
        "slot_ms": slot_ms,
        "deadline_ms": deadline_ms,
        "url": url,
        "reason": reason,
    }
    return encode(frame)


def expiring(in_ms: int) -> bytes:
    """Ask for a refresh of the credential."""
    frame: shapes.Expiring = {"type": "expiring", "in_ms": in_ms}
    return encode(frame)


def refreshed(id: str | None, expires_at: int) -> bytes:
    """Answer a refresh."""
    frame: shapes.Refreshed = {"type": "refreshed", "expires_at": rfc3339(expires_at)}
    return _reply(frame, id)


def error(
    code: ErrorCode,
    message: str,
    *,
    id: str | None = None,
    session: str | None = None,
    retryable: bool | None = None,
    retry_after_ms: int | None = None,
) -> bytes:
    """Tell of a failed request. `session` says which of several, where there is no id to say it."""
    frame: shapes.ErrorFrame = {
        "type": "error",
        "code": code,
        "message": message,
        "retryable": code in RETRYABLE if retryable is None else retryable,
    }
    if session is not None:
        frame["session"] = session
    if retry_after_ms is not None:
        frame["retry_after_ms"] = retry_after_ms
    return _reply(frame, id)


# -- sessions


def attached(id: str | None, access: Access, head: int, since: int, state: State) -> bytes:
    """Answer an open or attach; what follows `since` comes next."""
    session = access.session
    frame: shapes.Attached = {
        "type": "attached",
        "session": session.id,
        "head": head,
        "since": since,
        "epoch": session.epoch,
        "state": state,
        "title": session.title,
        "role": access.role,
    }
    return _reply(frame, id)


def live(session: str, seq: int) -> bytes:
    """Tell a reader that it has caught up."""
    frame: shapes.Live = {"type": "live", "session": session, "seq": seq}
    return encode(frame)


def detached(id: str | None, session: str) -> bytes:
    """Answer a detach."""
    frame: shapes.Detached = {"type": "detached", "session": session}
    return _reply(frame, id)


def updated(id: str | None, session: str, version: int) -> bytes:
    """Answer an update."""
    frame: shapes.Updated = {"type": "updated", "session": session, "version": version}
    return _reply(frame, id)


def closed(id: str | None, session: str) -> bytes:
    """Answer a close."""
    frame: shapes.Closed = {"type": "closed", "session": session}
    return _reply(frame, id)


def session_event(session: str, version: int, event: SessionEventName, change: Change | None = None) -> bytes:
    """Tell everybody attached what has happened to the session, and which version it has by now."""
    changes: shapes.Changes = {}
    if change is not None:
        if change.title is not None:
            changes["title"] = change.title
        if change.context is not None:
            changes["context"] = Fragment(change.context)
        if change.metadata is not None:
            changes["metadata"] = Fragment(change.metadata)
        if change.status is not None:
            changes["status"] = change.status
        if change.ttl_s is not None:
            changes["ttl_s"] = change.ttl_s or None
    frame: shapes.SessionEvent = {
        "type": "session",
        "session": session,
        "event": event,
        "version": version,
        "changes": changes,
    }
    return encode(frame)


# -- messages


def ack(id: str, session: str, seq: int, ts: int, duplicate: bool) -> bytes:
    """Answer a send: the message is committed."""
    frame: shapes.Ack = {
        "type": "ack",
        "id": id,
        "session": session,
        "seq": seq,
        "ts": ts,
        "duplicate": duplicate,
    }
    return encode(frame)


def message_shape(message: Message) -> shapes.MessageFrame:
    """A message as readers get it, before it is encoded."""
    return {
        "type": "message",
        "session": message.session,
        "seq": message.seq,
        "id": message.id,
        "client_id": message.client_id,
        "sender": message.sender,
        "role": message.role,
        "content": message.content,
        "metadata": Fragment(message.metadata),
        "created_at": rfc3339(message.created_at),
    }


def message(message: Message) -> bytes:
    """Deliver a message. Hot: once for each message, at its origin."""
    return encode(message_shape(message))


def history(id: str | None, session: str, messages: Iterable[Message], head: int, more: bool) -> bytes:
    """Answer a history request; each item is what its `message` frame was."""
    frame: shapes.HistoryReply = {
        "type": "history",
        "session": session,
        "messages": [message_shape(message) for message in messages],
        "head": head,
        "more": more,
    }
    return _reply(frame, id)


def read_mark(session: str, seq: int, user: str) -> bytes:
    """Tell the others how far a user has read."""
    frame: shapes.ReadMark = {"type": "read", "session": session, "user": user, "seq": seq}
    return encode(frame)


def read_answer(id: str | None, session: str, seq: int) -> bytes:
    """Answer a read marker that asked for it."""
    frame: shapes.ReadMark = {"type": "read", "session": session, "seq": seq}
    return _reply(frame, id)


# -- ephemeral


def signal(session: str, name: str, data: bytes | None, sender: str, connection: str) -> bytes:
    """Pass a signal on to the others."""
    frame: shapes.SignalFrame = {
        "type": "signal",
        "session": session,
        "name": name,
        "data": Fragment(EMPTY_OBJECT if data is None else data),
        "sender": sender,
        "connection": connection,
    }
    return encode(frame)


def signal_answer(id: str, session: str, name: str) -> bytes:
    """Answer a signal that asked for it: it was passed on; who got it is not known."""
    frame: shapes.SignalFrame = {"type": "signal", "id": id, "session": session, "name": name}
    return encode(frame)


def user_signal(user: str, name: str, data: Mapping[str, object] | Fragment) -> bytes:
    """Tell all connections of a user."""
    frame: shapes.SignalFrame = {"type": "signal", "user": user, "name": name, "data": data}
    return encode(frame)


def presence(id: str | None, session: str, users: Iterable[tuple[str, int, int]]) -> bytes:
    """Answer who is there: (user, connections, since in epoch ms)."""
    frame: shapes.PresenceReply = {
        "type": "presence",
        "session": session,
        "users": [
            {"user": user, "connections": connections, "since": rfc3339(since)}
            for user, connections, since in users
        ],
    }
    return _reply(frame, id)


def presence_event(session: str, event: Literal["join", "leave"], user: str, connections: int) -> bytes:
    """Tell of a user's first connection or of the end of their last."""
    frame: shapes.PresenceEvent = {
        "type": "presence",
        "session": session,
        "event": event,
        "user": user,
        "connections": connections,
    }
    return encode(frame)
