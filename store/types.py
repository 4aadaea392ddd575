"""The values that pass through the stores: plain, frozen, without behaviour.

Times are milliseconds since the Unix epoch (`*_at`). JSON documents (`context`, `metadata`, `sentences`)
travel as the UTF-8 text of a document, so that nobody parses and prints them again. What comes out of a store
is equal to what went in as JSON, not byte for byte: the order of keys and the space between may be others."""

from typing import Final, Literal

import msgspec

Role = Literal["owner", "writer", "reader"]
MessageRole = Literal["user", "assistant", "system", "tool"]
Status = Literal["active", "archived"]
EndReason = Literal["closed", "expired", "deleted"]
Refusal = Literal["not_found", "forbidden", "closed", "expired", "superseded", "id_conflict", "invalid"]
SessionState = Literal["connecting", "active", "idle", "disconnecting", "closed"]
AttendanceKind = Literal["joined", "left"]
EventKind = Literal["created", "updated", "archived", "closed", "expired", "deleted"] | AttendanceKind

EMPTY_OBJECT: Final = b"{}"


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every value here, compared by content.

    Each class says `frozen, kw_only` again, as type checkers ask.
    """


class NewSession(Value, frozen=True, kw_only=True):
    """What `Log.create` stores. `ttl_s` is None for a persistent session."""

    id: str
    tenant: str
    owner: str
    created_at: int
    title: str = ""
    ttl_s: int | None = None
    exclusive: bool = False
    context: bytes = EMPTY_OBJECT
    metadata: bytes = EMPTY_OBJECT
    text: str | None = None
    voice: str | None = None
    members: tuple[tuple[str, Role], ...] = ()  # beside the owner; each user once


class Session(Value, frozen=True, kw_only=True):
    """One row of `sessions`. `head` is the last seq (0: none).

    `version` grows with every change that has an event: not with messages, extensions and takeovers.
    """

    id: str
    tenant: str
    owner: str
    title: str
    status: Status
    exclusive: bool
    ttl_s: int | None
    expires_at: int | None
    head: int
    epoch: int
    version: int
    context: bytes
    metadata: bytes
    text: str | None
    voice: str | None
    sentences: bytes | None
    created_at: int
    updated_at: int
    ended_at: int | None = None
    end_reason: EndReason | None = None


class Standing(Value, frozen=True, kw_only=True):
    """What a node that hosts a session compares, to find what no hint told it: messages, ends, takeovers."""

    head: int
    version: int
    epoch: int
    end_reason: EndReason | None


class Tally(Value, frozen=True, kw_only=True):
    """What tells whether any of some sessions has moved: how many of them exist, and their `steps`.

    `steps` is the sum of their heads, versions and epochs.
    """

    sessions: int
    steps: int


class Access(Value, frozen=True, kw_only=True):
    """A session as one of its members sees it."""

    session: Session
    role: Role


class Listing(Value, frozen=True, kw_only=True):
    """One row of a user's session list. `unread` = head − the user's read marker.

    `preview` = start of the last message.
    """

    session: Session
    role: Role
    read: int
    unread: int
    last_at: int
    preview: str


class Change(Value, frozen=True, kw_only=True):
    """A change of a session; what is None stays as it is.

    `ttl_s`: so long it lives from now on, as a temporary one; 0: it is persistent.
    """

    title: str | None = None
    context: bytes | None = None
    metadata: bytes | None = None
    status: Status | None = None
    sentences: bytes | None = None
    ttl_s: int | None = None


class Member(Value, frozen=True, kw_only=True):
    """A user's right in a session."""

    user: str
    role: Role
    since: int


class Message(Value, frozen=True, kw_only=True):
    """One row of `messages`."""

    session: str
    seq: int
    id: str
    client_id: str
    sender: str
    role: MessageRole
    content: str
    metadata: bytes
    created_at: int


class Draft(Value, frozen=True, kw_only=True):
    """A message before it has a seq.

    `epoch` is the fencing number the sender holds, None where the session is not exclusive.
    """

    session: str
    tenant: str
    sender: str
    id: str
    client_id: str
    role: MessageRole
    content: str
    metadata: bytes
    created_at: int
    epoch: int | None = None


class Appended(Value, frozen=True, kw_only=True):
    """The draft is committed as `seq`.

    `duplicate` when an equal one had been before, whose id and time these then are.
    """

    seq: int
    id: str
    created_at: int
    duplicate: bool = False


class Refused(Value, frozen=True, kw_only=True):
    """The draft was not stored, and why."""

    code: Refusal


class Mark(Value, frozen=True, kw_only=True):
    """Watermarks of one user in one session; the stores keep the larger of old and new.

    None leaves one alone.
    """

    session: str
    user: str
    delivered: int | None = None
    read: int | None = None


class Cursor(Value, frozen=True, kw_only=True):
    """Stored watermarks of one user in one session."""

    user: str
    delivered: int
    read: int


class Act(Value, frozen=True, kw_only=True):
    """When something is done and by which user; None where nobody did it, or nobody knows."""

    at: int
    by: str | None = None


class Event(Value, frozen=True, kw_only=True):
    """One row of the outbox of session events; `id` grows strictly in commit order.

    `actor`: the user who did it, or who came or left. `version`: the session's after it, or when it was
    written.
    """

    id: int
    tenant: str
    session: str
    kind: EventKind
    version: int
    at: int
    actor: str | None = None
    data: bytes = EMPTY_OBJECT


class EventPage(Value, frozen=True, kw_only=True):
    """Events of one tenant. `purged`: all up to this id are gone, of every tenant."""

    events: list[Event]
    purged: int


class Attendance(Value, frozen=True, kw_only=True):
    """A user's coming into a session, or leaving it, before it is an event. `key`: a UUID of its own."""

    key: str
    tenant: str
    session: str
    user: str
    kind: AttendanceKind
    at: int
    data: bytes = EMPTY_OBJECT


class Purged(Value, frozen=True, kw_only=True):
    """How many events one purge deleted, and how many of them the webhook had not had.

    `is_done`: another one would find nothing to do.
    """

    events: int
    undelivered: int
    is_done: bool


class Revocation(Value, frozen=True, kw_only=True):
    """Tokens of the user issued before `before` (epoch ms) are no longer good; `id` grows strictly."""

    id: int
    tenant: str
    user: str
    before: int


class ConnectionEntry(Value, frozen=True, kw_only=True):
    """One connection in the live indexes. `sessions` are those it is attached to.

    `incarnation` says under which of its node's registrations it was written, as in `NodeEntry`.
    """

    id: str
    tenant: str
    user: str
    node: str
    since: int
    sessions: tuple[str, ...] = ()
    ip: str = ""
    port: int = 0
    incarnation: str = ""


class NodeEntry(Value, frozen=True, kw_only=True):
    """One node and its lease.

    A node registers under an `incarnation` of its own at each start, and anew when it was taken for lost:
    what the one before has left is never mistaken for its own. Clients reach it, and no other, by `url`.
    """

    id: str
    url: str | None
    started_at: int
    connections: int = 0
    incarnation: str = ""
    is_leaving: bool = False  # it takes no new connections: nobody is sent there


class SessionStats(Value, frozen=True, kw_only=True):
    """Traffic of one session, summed over connections: frames and bytes, as counted at the socket.

    RTT in ms.
    """

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    rtt_ms: float | None = None
    last_active: int = 0


class LiveSession(Value, frozen=True, kw_only=True):
    """The live record of a session: soft state, asserted anew by the nodes that host it."""

    id: str
    tenant: str
    state: SessionState
    node: str
    stats: SessionStats
    incarnation: str = ""
