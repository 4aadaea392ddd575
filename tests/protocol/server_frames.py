"""Each example of tests/vectors/server.json as the gateway's own functions build it."""

from datetime import UTC, datetime

from gateway.protocol import replies
from gateway.protocol.limits import Limits
from gateway.protocol.replies import WelcomeFacts
from store.types import Access, Change, Message, Session

SESSION = "01920000-0000-7000-8000-00000000000a"
OTHER = "01920000-0000-7000-8000-00000000000b"
CONNECTION = "01920000-0000-7000-8000-0000000000c1"
MESSAGE = "01920000-0000-7000-8000-0000000000e1"
AT = int(datetime(2025, 11, 21, 10, 0, 0, tzinfo=UTC).timestamp()) * 1000 + 123


def session(**changed: object) -> Session:
    """A session of alice's."""
    facts = {
        "id": SESSION,
        "tenant": "default",
        "owner": "alice",
        "title": "Trip to Oslo",
        "status": "active",
        "exclusive": True,
        "ttl_s": 3600,
        "expires_at": AT + 3_600_000,
        "head": 57,
        "epoch": 3,
        "version": 7,
        "context": b"{}",
        "metadata": b"{}",
        "text": None,
        "voice": None,
        "sentences": None,
        "created_at": AT,
        "updated_at": AT,
    }
    return Session(**{**facts, **changed})  # type: ignore[arg-type]


def message(seq: int = 58, content: str = "hello", metadata: bytes = b'{"lang":"en"}') -> Message:
    """A message of alice's."""
    return Message(
        session=SESSION,
        seq=seq,
        id=MESSAGE,
        client_id="c-17",
        sender="alice",
        role="user",
        content=content,
        metadata=metadata,
        created_at=AT,
    )


def _welcome() -> bytes:
    facts = WelcomeFacts(
        connection=CONNECTION,
        user="alice",
        tenant="default",
        node="n1",
        resume="kq3V…",
        resumed=True,
        interval_ms=25_000,
        timeout_ms=60_000,
        limits=Limits(),
        now=AT,
    )
    return replies.welcome(facts)


_ACCESS = Access(session=session(), role="owner")
_CHANGE = Change(title="Trip to Bergen", context=b'{"page":8}', metadata=b"{}")
_HEADS: dict[str, replies.HeartbeatSession] = {
    SESSION: {"head": 58, "ttl_ms": 3_600_000},
    OTHER: {"head": 0, "ttl_ms": None},
}
_NOT_FOUND = "there is no such session, or it is not yours"

BUILT = {
    "welcome": _welcome(),
    "attached": replies.attached("r2", _ACCESS, 57, 41, "active"),
    "attached by the hello, without id": replies.attached(None, _ACCESS, 57, 41, "active"),
    "message": replies.message(message()),
    "live": replies.live(SESSION, 57),
    "detached": replies.detached("r3", SESSION),
    "updated": replies.updated("r4", SESSION, 7),
    "closed": replies.closed("r5", SESSION),
    "session updated": replies.session_event(SESSION, 7, "updated", _CHANGE),
    "session archived": replies.session_event(SESSION, 8, "archived", Change(status="archived")),
    "session expired": replies.session_event(SESSION, 9, "expired"),
    "session deleted": replies.session_event(SESSION, 9, "deleted"),
    "session superseded": replies.session_event(SESSION, 9, "superseded"),
    "session closed": replies.session_event(SESSION, 9, "closed"),
    "ack": replies.ack("c-17", SESSION, 58, 1763719200123, False),
    "ack of a message sent again": replies.ack("c-17", SESSION, 58, 1763719200123, True),
    "history": replies.history("h1", SESSION, [message(41), message(42)], 58, True),
    "history, empty": replies.history("h1", SESSION, [], 0, False),
    "read marker of another user": replies.read_mark(SESSION, 58, "bob"),
    "read marker, answered": replies.read_answer("m1", SESSION, 58),
    "signal": replies.signal(SESSION, "typing", b'{"on":true}', "bob", CONNECTION),
    "signal, answered": replies.signal_answer("s1", SESSION, "typing"),
    "signal to a user": replies.user_signal("alice", "session.joined", {"session": SESSION}),
    "presence": replies.presence("p1", SESSION, [("bob", 2, AT)]),
    "presence, somebody joins": replies.presence_event(SESSION, "join", "bob", 1),
    "presence, somebody leaves": replies.presence_event(SESSION, "leave", "bob", 0),
    "heartbeat": replies.heartbeat(None, 1763719200123, 1763719200151, _HEADS),
    "migrate": replies.migrate(1400, 30_000, None, "drain"),
    "expiring": replies.expiring(60_000),
    "refreshed": replies.refreshed("t1", AT),
    "error": replies.error("rate_limited", "50 frames a second are allowed", id="c-17", retry_after_ms=400),
    "error without a request that could be named": replies.error(
        "bad_request", "not a frame: JSON is malformed"
    ),
    "error of an attachment asked for in hello": replies.error("not_found", _NOT_FOUND, session=SESSION),
}
