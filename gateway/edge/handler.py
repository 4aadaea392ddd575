"""What the edge asks of whoever is behind it: one handler per connection, made by a factory at the upgrade.

Every call comes from the event loop's thread and must return at once. `now` is monotonic seconds.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from gateway.fanout.outlet import Outlet

# A text message of 64 KiB may be written with \u0000 escapes, six bytes for one; four times is what real text
# needs at most ("\n", quotes, surrogate pairs of what is four bytes in UTF-8), and the codec checks the
# decoded size.
_MESSAGE_BYTES = 4 * 64 * 1024 + 4096


class UpgradeRequest(msgspec.Struct, frozen=True):
    """One request for a WebSocket that has passed the edge's own checks (path, origin, rates)."""

    path: str
    query: str
    headers: Mapping[str, str]  # lower-case names; repeated ones joined by ", "
    origin: str | None
    ip: str  # behind a trusted proxy: the rightmost address of X-Forwarded-For that is not one
    port: int
    subprotocols: tuple[str, ...]  # as offered, without any `bearer.…`
    bearer: str | None  # from Authorization, else from the subprotocol `bearer.<token>`; not verified


class Rejection(msgspec.Struct, frozen=True):
    """An answer to an upgrade request other than 101."""

    status: int
    reason: str  # plain text for a person; holds nothing secret
    headers: tuple[tuple[str, str], ...] = ()
    retry_after_s: int | None = None


class Handler(Protocol):
    """One connection, as seen from behind the edge.

    Order: on_open first, then any of the others, on_closed last and once, also when another call raised.
    Errors: an exception is a bug; the edge logs it once with its traceback and closes with 1011.
    """

    def on_open(self, outlet: Outlet) -> None:
        """The handshake is done; frames may be put."""

    def on_text(self, data: bytes, now: float) -> None:
        """Take one whole text message: valid UTF-8, at most `message_bytes` long."""

    def on_binary(self, data: bytes, now: float) -> None:
        """Take one whole binary message, at most `message_bytes` long."""

    def on_rtt(self, ms: float) -> None:
        """The peer answered a WebSocket ping of ours after `ms`."""

    def on_drained(self) -> None:
        """The outlet was lagging and everything that waited has left: messages are taken again."""

    def on_closed(self, code: int) -> None:
        """The connection is over. `code`: the close code we sent, else the one received, else 1006."""

    def check(self, now: float) -> float:
        """Close what is overdue; return the monotonic time of the next deadline, `math.inf` for none.

        Called right after on_open, then when the returned time has come, at most 250 ms late. A deadline that
        moves nearer in the meantime is told to the outlet: `hasten`.
        """


HandlerFactory = Callable[[UpgradeRequest], Handler | Rejection]


class EdgeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge allows. The defaults are those of the documented limits."""

    path: str = "/ws"
    subprotocol: str = "session.v1"
    origins: tuple[str, ...] = ()  # exact; none: only pages of the host that was asked
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-For counts

    message_bytes: int = _MESSAGE_BYTES
    fragments: int = 64
    connections_per_address: int = 200  # IPv6: per /64, the smallest net that a household gets
    accepts_per_s: int = 500
    horizon_s: float = 30.0  # nobody is told to come again later than this
    pings_per_s: int = 10

    gather_s: float = 0.02  # how long what quiet connections send waits for that of others; 0: not at all
    crowd: int = 2000  # on a node with fewer connections none is quiet

    outbox_frames: int = 256
    outbox_bytes: int = 1024 * 1024

    handshake_s: float = 5.0  # from accept to a complete request head
    request_s: float = 30.0  # from there to the end of a request's body
    request_head_bytes: int = 16 * 1024
    request_bytes: int = 1024 * 1024  # head, body and whatever else a request is padded with
    ping_s: float = 125.0  # between two that measure the round trip; who is silent is asked besides
    silent_s: float = 60.0
    stall_s: float = 30.0
    closing_s: float = 5.0
