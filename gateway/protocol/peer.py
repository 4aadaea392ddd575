"""The conversation with one client: what it may say when, as one table. Pure: time is an argument.

Nothing but the table moves the state. Whoever drives a peer carries out what `receive` returns.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from gateway.protocol import replies
from gateway.protocol.close import CloseCode, clip_reason
from gateway.protocol.codec import FrameError, decode, read_id
from gateway.protocol.frames import ClientFrame, Hello
from gateway.protocol.limits import Limits, TokenBucket

# A client that waits for `retry_after_ms` may be refused again and again, and does not flood. One that sends
# twice its burst without waiting, in ten seconds, does not read its answers, and costs as if it were served.
FLOOD_WINDOW_S: Final = 10.0
FLOOD_BURSTS: Final = 2


class State(StrEnum):
    __hash__ = str.__hash__  # that of Enum is a function in Python, and the table is asked with every frame

    OPENING = "opening"
    AUTHENTICATING = "authenticating"
    OPEN = "open"
    DRAINING = "draining"
    CLOSING = "closing"
    CLOSED = "closed"


class Input(StrEnum):
    """What the client does (up to `flood`), what the gateway decides, and the socket's end."""

    __hash__ = str.__hash__

    HELLO = "hello"
    REQUEST = "request"
    BROKEN = "broken"
    BINARY = "binary"
    EXCESS = "excess"
    FLOOD = "flood"
    WELCOMED = "welcomed"
    REFUSED = "refused"
    DRAIN = "drain"
    CLOSE = "close"
    LOST = "lost"


# A pair that is missing cannot happen: it would be a mistake of ours, and raises. Frames that come in
# `closing` and `closed` are no input at all: they were on their way when the close frame was sent.
TABLE: Final[Mapping[tuple[State, Input], State]] = {
    (State.OPENING, Input.HELLO): State.AUTHENTICATING,
    (State.OPENING, Input.REQUEST): State.CLOSING,
    (State.OPENING, Input.BROKEN): State.CLOSING,
    (State.OPENING, Input.BINARY): State.CLOSING,
    (State.OPENING, Input.CLOSE): State.CLOSING,
    (State.OPENING, Input.LOST): State.CLOSED,
    (State.AUTHENTICATING, Input.HELLO): State.CLOSING,
    (State.AUTHENTICATING, Input.REQUEST): State.AUTHENTICATING,
    (State.AUTHENTICATING, Input.BROKEN): State.AUTHENTICATING,
    (State.AUTHENTICATING, Input.BINARY): State.AUTHENTICATING,
    (State.AUTHENTICATING, Input.EXCESS): State.AUTHENTICATING,
    (State.AUTHENTICATING, Input.FLOOD): State.CLOSING,
    (State.AUTHENTICATING, Input.WELCOMED): State.OPEN,
    (State.AUTHENTICATING, Input.REFUSED): State.CLOSING,
    (State.AUTHENTICATING, Input.CLOSE): State.CLOSING,
    (State.AUTHENTICATING, Input.LOST): State.CLOSED,
    (State.OPEN, Input.HELLO): State.CLOSING,
    (State.OPEN, Input.REQUEST): State.OPEN,
    (State.OPEN, Input.BROKEN): State.OPEN,
    (State.OPEN, Input.BINARY): State.OPEN,
    (State.OPEN, Input.EXCESS): State.OPEN,
    (State.OPEN, Input.FLOOD): State.CLOSING,
    (State.OPEN, Input.DRAIN): State.DRAINING,
    (State.OPEN, Input.CLOSE): State.CLOSING,
    (State.OPEN, Input.LOST): State.CLOSED,
    (State.DRAINING, Input.HELLO): State.CLOSING,
    (State.DRAINING, Input.REQUEST): State.DRAINING,
    (State.DRAINING, Input.BROKEN): State.DRAINING,
    (State.DRAINING, Input.BINARY): State.DRAINING,
    (State.DRAINING, Input.EXCESS): State.DRAINING,
    (State.DRAINING, Input.FLOOD): State.CLOSING,
    (State.DRAINING, Input.DRAIN): State.DRAINING,
    (State.DRAINING, Input.CLOSE): State.CLOSING,
    (State.DRAINING, Input.LOST): State.CLOSED,
    # Decisions made while the connection was ending come too late; the first close stands.
    (State.CLOSING, Input.WELCOMED): State.CLOSING,
    (State.CLOSING, Input.REFUSED): State.CLOSING,
    (State.CLOSING, Input.DRAIN): State.CLOSING,
    (State.CLOSING, Input.CLOSE): State.CLOSING,
    (State.CLOSING, Input.LOST): State.CLOSED,
    (State.CLOSED, Input.WELCOMED): State.CLOSED,
    (State.CLOSED, Input.REFUSED): State.CLOSED,
    (State.CLOSED, Input.DRAIN): State.CLOSED,
    (State.CLOSED, Input.CLOSE): State.CLOSED,
}

_DEAF: Final = frozenset({State.CLOSING, State.CLOSED})

# Python 3.11 looks up a member of an enumeration by a function in Python: these are needed with every frame.
_OPENING: Final = State.OPENING
_REQUEST: Final = Input.REQUEST


class Greet(msgspec.Struct, frozen=True):
    """The first frame was a hello: find out who it is, then call `welcomed` or `refused`."""

    frame: Hello


class Do(msgspec.Struct, frozen=True):
    """A request. Before the welcome it has to wait for it."""

    frame: ClientFrame


class Answer(msgspec.Struct, frozen=True):
    """The frame could not be served: send these bytes; the conversation goes on."""

    frame: bytes


class Hang(msgspec.Struct, frozen=True):
    """Close the connection with this."""

    code: CloseCode
    reason: str


class Nothing(msgspec.Struct, frozen=True):
    """Nothing is to be done."""


Outcome = Greet | Do | Answer | Hang | Nothing

_NOTHING: Final = Nothing()


class Peer:
    """One client's conversation. `receive` and `binary` take what came, the rest what was decided."""

    __slots__ = ("_bucket", "_impatient", "_impatient_since", "_limits", "_retry_at", "state")

    def __init__(self, limits: Limits, now: float) -> None:
        self.state = State.OPENING
        self._limits = limits
        self._bucket = TokenBucket(limits.frames_per_s, limits.frames_burst)
        self._retry_at = now  # what comes before it, after a refusal, comes too soon
        self._impatient = 0
        self._impatient_since = now

    def receive(self, data: bytes, now: float) -> Outcome:
        """Take one text message."""
        if self.state is _OPENING:
            return self._first(data)
        if self.state in _DEAF:
            return _NOTHING
        wait_s = self._bucket.take(now)
        if wait_s > 0.0:
            return self._excess(wait_s, read_id(data), now)
        try:
            frame = decode(data, self._limits)
        except FrameError as fault:
            self._step(Input.BROKEN)
            return Answer(replies.error(fault.code, fault.message, id=fault.id))
        if isinstance(frame, Hello):
            return self._violation(Input.HELLO, "hello is said once")
        self._step(_REQUEST)
        return Do(frame)

    def binary(self, size: int, now: float) -> Outcome:
        """Take one binary message of that many bytes."""
        if self.state is State.OPENING:
            return self._violation(Input.BINARY, "the first frame must be hello")
        if self.state in _DEAF:
            return _NOTHING
        wait_s = self._bucket.take(now)
        if wait_s > 0.0:
            return self._excess(wait_s, None, now)
        self._step(Input.BINARY)
        text = f"a binary message of {size} bytes: streams are not offered by this version"
        return Answer(replies.error("bad_request", text))

    def welcomed(self) -> None:
        """The client is known and may stay."""
        self._step(Input.WELCOMED)

    def refused(self) -> None:
        """The client may not stay: close with the reason."""
        self._step(Input.REFUSED)

    def draining(self) -> None:
        """The client was asked to move; it is served until it has."""
        self._step(Input.DRAIN)

    def closing(self) -> None:
        """A close frame was sent, or is about to be."""
        self._step(Input.CLOSE)

    def lost(self) -> None:
        """The socket is gone."""
        self._step(Input.LOST)

    def _step(self, happening: Input) -> None:
        self.state = TABLE[self.state, happening]

    def _first(self, data: bytes) -> Outcome:
        most = self._limits.hello_bytes
        if len(data) > most:
            return self._violation(Input.BROKEN, f"the first frame is at most {most} bytes")
        try:
            frame = decode(data, self._limits)
        except FrameError as fault:
            return self._violation(Input.BROKEN, fault.message)
        if not isinstance(frame, Hello):
            return self._violation(Input.REQUEST, "the first frame must be hello")
        self._step(Input.HELLO)
        return Greet(frame)

    def _violation(self, happening: Input, reason: str) -> Hang:
        self._step(happening)
        return Hang(CloseCode.PROTOCOL_VIOLATION, clip_reason(reason))

    def _excess(self, wait_s: float, id: str | None, now: float) -> Answer | Hang:
        if now - self._impatient_since > FLOOD_WINDOW_S:
            self._impatient_since = now
            self._impatient = 0
        self._impatient += now < self._retry_at
        self._retry_at = now + wait_s
        allowed = f"{self._limits.frames_per_s:g} frames a second are allowed"
        if self._impatient > FLOOD_BURSTS * self._limits.frames_burst:
            self._step(Input.FLOOD)
            return Hang(CloseCode.FLOODING, allowed)
        self._step(Input.EXCESS)
        return Answer(replies.error("rate_limited", allowed, id=id, retry_after_ms=math.ceil(wait_s * 1000)))
