"""The bounds on what a peer may do, with their defaults, and the bucket that meters a rate."""

from typing import Final

import msgspec

# ECMA-262 Number.MAX_SAFE_INTEGER: beyond it a browser reads another number than was sent.
MAX_SAFE_INTEGER: Final = 2**53 - 1

# Sums of floats are rounded; without this, a caller that waits as long as told might be refused again.
_ROUNDING_S: Final = 1e-9


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one frame and one connection may amount to. Bytes are those of the decoded text in UTF-8."""

    message_bytes: int = 65_536  # `content` of a message, `text` of a session
    document_bytes: int = 65_536  # `context`, `metadata`
    signal_bytes: int = 16_384  # `data` of a signal
    json_depth: int = 32  # nesting of a document, its own braces included
    history_messages: int = 200  # asked for at once
    hello_bytes: int = 4_096  # the first frame as a whole
    attachments: int = 64
    frames_per_s: float = 50
    frames_burst: int = 100


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
            return wait + _ROUNDING_S
        self._full_at = full_at + self._interval
        return 0.0
