"""What a client may send: one struct for each `type`, with the rules that a single field can state.

Rules that depend on limits or on several fields live in the codec. A document (`context`, `metadata`, `data`)
stays the JSON bytes it came as; the property of that name gives them, None where it was absent or null.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw

from gateway.protocol.limits import MAX_SAFE_INTEGER
from store.types import MessageRole, Status

MAX_ID_CHARS: Final = 64
MAX_TITLE_CHARS: Final = 200
MAX_NAME_CHARS: Final = 64

# 30 days: what should last longer is a persistent session.
MAX_TTL_S: Final = 30 * 86_400

Count = Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
Seq = Annotated[int, Meta(ge=1, le=MAX_SAFE_INTEGER)]
RequestId = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS)]
Title = Annotated[str, Meta(max_length=MAX_TITLE_CHARS)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
Ttl = Annotated[int, Meta(ge=1, le=MAX_TTL_S)]

# msgspec keeps `Raw` unparsed only where it stands alone in a type: `Raw | None` refuses everything but null.
ABSENT: Final = Raw()


def document(raw: Raw) -> bytes | None:
    """Copy the document out of the received buffer, which the Raw would keep alive; null counts as absent."""
    data = bytes(raw)
    return None if data in (b"", b"null") else data


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """The base of every client frame; `id` is the client's own, repeated in the one reply."""

    id: RequestId | None = None


class ClientInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the client says of itself; only ever logged."""

    name: Annotated[str, Meta(max_length=MAX_NAME_CHARS)] = ""
    version: Annotated[str, Meta(max_length=MAX_NAME_CHARS)] = ""


class AttachRef(msgspec.Struct, frozen=True, kw_only=True):
    """One attachment asked for in `hello`."""

    session: str
    since: Count | None = None


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """Open the conversation: who, and what to take up again."""

    token: str | None = None
    ticket: str | None = None
    resume: str | None = None
    client: ClientInfo | None = None
    attach: list[AttachRef] = msgspec.field(default_factory=list)


class Open(Frame, frozen=True, kw_only=True, tag="open"):
    """Make a session and attach to it."""

    title: Title = ""
    persistent: bool = False
    ttl: Ttl | None = None
    exclusive: bool = False
    context_json: Raw = msgspec.field(default=ABSENT, name="context")
    metadata_json: Raw = msgspec.field(default=ABSENT, name="metadata")
    text: str | None = None
    voice: Annotated[str, Meta(max_length=MAX_NAME_CHARS)] | None = None

    @property
    def context(self) -> bytes | None:
        return document(self.context_json)

    @property
    def metadata(self) -> bytes | None:
        return document(self.metadata_json)


class Attach(Frame, frozen=True, kw_only=True, tag="attach"):
    """Read a session after `since`; absent: only what is new."""

    session: str
    since: Count | None = None


class Detach(Frame, frozen=True, kw_only=True, tag="detach"):
    session: str


class Update(Frame, frozen=True, kw_only=True, tag="update"):
    """Change what is given, leave the rest."""

    session: str
    title: Title | None = None
    context_json: Raw = msgspec.field(default=ABSENT, name="context")
    metadata_json: Raw = msgspec.field(default=ABSENT, name="metadata")
    status: Status | None = None

    @property
    def context(self) -> bytes | None:
        return document(self.context_json)

    @property
    def metadata(self) -> bytes | None:
        return document(self.metadata_json)


class Close(Frame, frozen=True, kw_only=True, tag="close"):
    """End the session, for everybody."""

    session: str


class Send(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="send"):
    """Append a message; `id` is its idempotency key and therefore required."""

    id: RequestId
    session: str
    content: str
    role: MessageRole = "user"
    metadata_json: Raw = msgspec.field(default=ABSENT, name="metadata")

    @property
    def metadata(self) -> bytes | None:
        return document(self.metadata_json)


class History(Frame, frozen=True, kw_only=True, tag="history"):
    """Read stored messages before or after a seq; neither: the newest."""

    session: str
    before: Seq | None = None
    after: Count | None = None
    limit: Annotated[int, Meta(ge=1)] = 50


class Read(Frame, frozen=True, kw_only=True, tag="read"):
    """Move the read marker."""

    session: str
    seq: Seq


class Signal(Frame, frozen=True, kw_only=True, tag="signal"):
    """Tell the other attachments something that nobody stores."""

    session: str
    name: Name
    data_json: Raw = msgspec.field(default=ABSENT, name="data")

    @property
    def data(self) -> bytes | None:
        return document(self.data_json)


class Presence(Frame, frozen=True, kw_only=True, tag="presence"):
    session: str


class Heartbeat(Frame, frozen=True, kw_only=True, tag="heartbeat"):
    """Show life; `seen` is the delivered watermark of each session."""

    ts: Count
    seen: dict[str, Count] | None = None


class Refresh(Frame, frozen=True, kw_only=True, tag="refresh"):
    token: str


ClientFrame = (
    Hello
    | Open
    | Attach
    | Detach
    | Update
    | Close
    | Send
    | History
    | Read
    | Signal
    | Presence
    | Heartbeat
    | Refresh
)

TYPES: Final = frozenset(
    {
        "hello",
        "open",
        "attach",
        "detach",
        "update",
        "close",
        "send",
        "history",
        "read",
        "signal",
        "presence",
        "heartbeat",
        "refresh",
    }
)
