"""The values a client hands out: plain, frozen. Names are those of the wire."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, TypedDict

# One JSON object of the wire. Its values are checked where they are read.
Frame: TypeAlias = dict[str, Any]
Document: TypeAlias = Mapping[str, Any]
MessageRole: TypeAlias = Literal["user", "assistant", "system", "tool"]
ClientState: TypeAlias = Literal["connecting", "open", "waiting", "closed"]


@dataclass(frozen=True, slots=True)
class Message:
    """One durable entry of a session."""

    session: str
    seq: int
    id: str
    client_id: str | None
    sender: str
    role: str
    content: str
    metadata: Document
    created_at: str

    @classmethod
    def of(cls, frame: Frame, session: str | None = None) -> Self:
        """Read a `message` frame, or an entry of a `history` reply."""
        return cls(
            session=frame.get("session") or session or "",
            seq=int(frame["seq"]),
            id=frame["id"],
            client_id=frame.get("client_id"),
            sender=frame["sender"],
            role=frame["role"],
            content=frame["content"],
            metadata=frame.get("metadata") or {},
            created_at=frame["created_at"],
        )


@dataclass(frozen=True, slots=True)
class Ack:
    """The message is committed as `seq`. `duplicate`: it had been before, by an earlier send with this id."""

    session: str
    id: str
    seq: int
    ts: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Unacked:
    """A message that waits for its ack. `transmitted`: it may be stored already."""

    session: str
    id: str
    transmitted: bool


@dataclass(frozen=True, slots=True)
class History:
    """A page of a session's messages, ascending. `more`: there are others, in the direction asked for."""

    messages: tuple[Message, ...]
    head: int
    more: bool


@dataclass(frozen=True, slots=True)
class PresentUser:
    """A user who is attached to the session now."""

    user: str
    connections: int
    since: str


class SessionSpec(TypedDict, total=False):
    """What `Client.open` may say of the new session; `ttl` in seconds."""

    title: str
    persistent: bool
    ttl: int
    exclusive: bool
    context: Document
    metadata: Document
    text: str
    voice: str


class Changes(TypedDict, total=False):
    """What `Session.update` may change."""

    title: str
    context: Document
    metadata: Document
    status: Literal["active", "archived"]


# -- events


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The client's state is now `state`. `retry_in_s` with `waiting`; `reason` says why it is not open."""

    state: ClientState
    retry_in_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection is up. `resumed`: it took over from the lost one; messages are complete in both cases."""

    connection: str
    node: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class SessionChanged:
    """Something happened to a session: updated, archived, expired, deleted, superseded, closed."""

    session: str
    event: str
    version: int | None
    changes: Document


@dataclass(frozen=True, slots=True)
class Signal:
    """Something ephemeral. `session` is None for a signal to the user, `sender` for the gateway's own."""

    session: str | None
    name: str
    data: Any
    sender: str | None
    connection: str | None


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """A user came to a session with their first connection, or left it with the last."""

    session: str
    event: str
    user: str
    connections: int


@dataclass(frozen=True, slots=True)
class ReadMarked:
    """A member has read up to `seq`."""

    session: str
    user: str
    seq: int


@dataclass(frozen=True, slots=True)
class CredentialExpiring:
    """The credential expires; without a `token_provider` the connection will end soon after."""

    in_s: float


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The gateway refused something that nobody waits for, such as a signal."""

    code: str
    message: str


Event: TypeAlias = (
    StateChanged
    | Connected
    | SessionChanged
    | Signal
    | PresenceChanged
    | ReadMarked
    | CredentialExpiring
    | RequestRefused
)
