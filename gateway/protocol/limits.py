"""The bounds on what a peer may do, with their defaults, and the bucket that meters a rate."""

from typing import Final

import msgspec

# ECMA-262 Number.MAX_SAFE_INTEGER: beyond it a browser reads another number than was sent.
MAX_SAFE_INTEGER: Final = 2**53 - 1

# Sums of floats are rounded; without this, a caller that waits as long as told might be refused again.
_ROUNDING_S: Final = 1e-9


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit of the gateway. Bytes of a text are those of its UTF-8; times are seconds."""

    max_message_bytes: int = 65_536  # `content` of a message, `text` of a session
    max_document_bytes: int = 65_536  # `context`, `metadata`
    max_signal_bytes: int = 16_384  # `data` of a signal
    max_chunk_bytes: int = 16_384
    max_fragments: int = 64
    max_json_depth: int = 32  # of a document, its own braces included
    max_history_messages: int = 200  # asked for at once
    max_hello_bytes: int = 4_096  # the first frame as a whole
    max_hello_s: float = 5.0
    max_attachments: int = 64
    max_connections_per_user: int = 10
    max_sessions_per_user: int = 100
    max_connections_per_address: int = 200
    max_frames_per_s: float = 50.0
    max_frame_burst: int = 100
    max_pings_per_s: float = 10.0
    max_outbox_bytes: int = 1_048_576
    max_outbox_frames: int = 256
    max_stalled_s: float = 30.0
    max_accepts_per_s: float = 500.0
    max_lifetime_s: float = 86_400.0

    def announced(self) -> dict[str, float]:
        """What a client has to keep to, as `welcome` tells it."""
        return {
            "message_bytes": self.max_message_bytes,
            "document_bytes": self.max_document_bytes,
            "signal_bytes": self.max_signal_bytes,
            "json_depth": self.max_json_depth,
            "history_messages": self.max_history_messages,
            "hello_bytes": self.max_hello_bytes,
            "attachments": self.max_attachments,
            "frames_per_s": self.max_frames_per_s,
            "frame_burst": self.max_frame_burst,
        }


class TokenBucket:
    """Meter events at `rate` a second with at most `burst` at once; starts full.

    Kept as the one moment at which the bucket will be full again (GCRA), because every connection has one.
    """

    __slots__ = ("_full_at", "_interval", "_slack")

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        self._slack = (burst - 1) * self._interval + _ROUNDING_S
        self._full_at = float("-inf")

    def take(self, now: float) -> float:
        """Take one token and return 0.0, or take nothing and return the seconds until there is one."""
        full_at = self._full_at if self._full_at > now else now
        wait = full_at - now - self._slack
        if wait > 0.0:
            return wait
        self._full_at = full_at + self._interval
        return 0.0
