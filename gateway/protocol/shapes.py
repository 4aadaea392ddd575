"""What server frames look like: one TypedDict for each `type` and use. replies.py makes them."""

from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict

from gateway.errors import ErrorCode
from gateway.protocol.codec import Fragment
from gateway.protocol.lifecycle import State
from store.types import MessageRole, Role

SessionEventName = Literal["updated", "archived", "expired", "deleted", "superseded", "closed"]
MigrateReason = Literal["drain", "lifetime", "operator", "rebalance"]


class HeartbeatTimes(TypedDict):
    interval_ms: int
    timeout_ms: int


class Welcome(TypedDict):
    type: Literal["welcome"]
    id: NotRequired[str]
    connection: str
    user: str
    tenant: str
    node: str
    resume: str
    resumed: bool
    heartbeat: HeartbeatTimes
    limits: dict[str, float]
    now: str


class Attached(TypedDict):
    type: Literal["attached"]
    id: NotRequired[str]
    session: str
    head: int
    since: int
    epoch: int
    state: State
    title: str
    role: Role


class MessageFrame(TypedDict):
    type: Literal["message"]
    session: str
    seq: int
    id: str
    client_id: str
    sender: str
    role: MessageRole
    content: str
    metadata: Fragment
    created_at: str


class Live(TypedDict):
    type: Literal["live"]
    session: str
    seq: int


class Detached(TypedDict):
    type: Literal["detached"]
    id: NotRequired[str]
    session: str


class Updated(TypedDict):
    type: Literal["updated"]
    id: NotRequired[str]
    session: str
    version: int


class Closed(TypedDict):
    type: Literal["closed"]
    id: NotRequired[str]
    session: str


class Changes(TypedDict, total=False):
    title: str
    context: Fragment
    metadata: Fragment
    status: str
    ttl_s: int | None


class SessionEvent(TypedDict):
    type: Literal["session"]
    session: str
    event: SessionEventName
    version: int
    changes: Changes


class Ack(TypedDict):
    type: Literal["ack"]
    id: str
    session: str
    seq: int
    ts: int
    duplicate: bool


class HistoryReply(TypedDict):
    type: Literal["history"]
    id: NotRequired[str]
    session: str
    messages: list[MessageFrame]
    head: int
    more: bool


class ReadMark(TypedDict):
    """Told to the others with `user`; the answer to a request has `id` instead."""

    type: Literal["read"]
    id: NotRequired[str]
    session: str
    user: NotRequired[str]
    seq: int


class SignalFrame(TypedDict):
    """To a session with `session`, `sender`, `connection`; to a user with `user`; as an answer with `id`."""

    type: Literal["signal"]
    id: NotRequired[str]
    session: NotRequired[str]
    user: NotRequired[str]
    name: str
    data: NotRequired[object]
    sender: NotRequired[str]
    connection: NotRequired[str]


class PresentUser(TypedDict):
    user: str
    connections: int
    since: str


class PresenceReply(TypedDict):
    type: Literal["presence"]
    id: NotRequired[str]
    session: str
    users: list[PresentUser]


class PresenceEvent(TypedDict):
    type: Literal["presence"]
    session: str
    event: Literal["join", "leave"]
    user: str
    connections: int


class HeartbeatSession(TypedDict):
    head: int
    ttl_ms: int | None


class HeartbeatReply(TypedDict):
    type: Literal["heartbeat"]
    id: NotRequired[str]
    ts: int
    now: int
    sessions: Mapping[str, HeartbeatSession]


class Migrate(TypedDict):
    type: Literal["migrate"]
    slot_ms: int
    deadline_ms: int
    url: str | None
    reason: str


class Expiring(TypedDict):
    type: Literal["expiring"]
    in_ms: int


class Refreshed(TypedDict):
    type: Literal["refreshed"]
    id: NotRequired[str]
    expires_at: str


class ErrorFrame(TypedDict):
    type: Literal["error"]
    id: NotRequired[str]
    session: NotRequired[str]
    code: ErrorCode
    message: str
    retryable: bool
    retry_after_ms: NotRequired[int]


ServerFrame = (
    Welcome
    | Attached
    | MessageFrame
    | Live
    | Detached
    | Updated
    | Closed
    | SessionEvent
    | Ack
    | HistoryReply
    | ReadMark
    | SignalFrame
    | PresenceReply
    | PresenceEvent
    | HeartbeatReply
    | Migrate
    | Expiring
    | Refreshed
    | ErrorFrame
)
