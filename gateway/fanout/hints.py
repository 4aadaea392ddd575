"""What the bus carries: hints. The log is the truth; every one of these may be lost."""

from typing import Final

import msgspec

from store.types import EndReason, Role


class MessageHint(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """Message `seq` of the channel's session is committed.

    `frame` is what its readers get, ready-made at the origin.
    """

    seq: int
    frame: bytes


class SignalHint(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """Something ephemeral for everybody on the channel but one connection (empty: for everybody)."""

    frame: bytes
    but: str = ""


class ChangedHint(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """The session was changed and has this version by now; `frame` tells of it, and is not droppable.

    `life`, where that was changed: its TTL in seconds and when it expires; both None for a persistent one.
    """

    version: int
    frame: bytes
    life: tuple[int | None, int | None] | None = None


class EndedHint(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """The session has ended with `head` as its last seq.

    Attachments get everything up to there, then `frame`.
    """

    frame: bytes
    head: int
    reason: EndReason


class SupersededHint(msgspec.Struct, frozen=True, tag=5, array_like=True):
    """The exclusive session is now held under `epoch` by one client: its connection, and while it moves its
    former one.

    Attachments of others with an older one are told and let go.
    """

    frame: bytes
    epoch: int
    by: tuple[str, ...] = ()


class MemberHint(msgspec.Struct, frozen=True, tag=6, array_like=True):
    """A user's right has changed, and with it the session's version.

    `role` is None when it is gone, and `farewell` what that user is then told.
    """

    version: int
    frame: bytes
    user: str
    role: Role | None
    farewell: bytes = b""


class RevokedHint(msgspec.Struct, frozen=True, tag=7, array_like=True):
    """Tokens of the channel's user issued before `before` (epoch ms) are no longer good."""

    before: int


class DisconnectHint(msgspec.Struct, frozen=True, tag=8, array_like=True):
    """Connections of the channel's user are to be closed: one of them, or (empty) all there are."""

    connection: str = ""


Hint = (
    MessageHint
    | SignalHint
    | ChangedHint
    | EndedHint
    | SupersededHint
    | MemberHint
    | RevokedHint
    | DisconnectHint
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Hint]] = msgspec.msgpack.Decoder(Hint)


def encode(hint: Hint) -> bytes:
    """Make the payload of a hint."""
    return _encoder.encode(hint)


def decode(payload: bytes) -> Hint:
    """Read a payload. msgspec.DecodeError when it is none of ours."""
    return _decoder.decode(payload)


def session_channel(session: str) -> str:
    """The channel of everything about one session."""
    return f"s:{session}"


def user_channel(tenant: str, user: str) -> str:
    """The channel of what concerns one user, wherever they are connected.

    Names hold no slash, so two pairs never meet.
    """
    return f"u:{tenant}/{user}"
