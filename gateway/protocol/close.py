"""How a connection ends and how a request fails: the codes, their names and what a client does about them."""

from collections.abc import Set as AbstractSet
from enum import IntEnum
from typing import Final, Literal, get_args

from gateway.errors import ErrorCode

Action = Literal["done", "stop", "resume", "resume later"]

ERROR_CODES: Final[tuple[ErrorCode, ...]] = get_args(ErrorCode)

# The same request, sent again unchanged, may succeed.
RETRYABLE: Final[AbstractSet[ErrorCode]] = frozenset({"rate_limited", "unavailable"})

# RFC 6455 5.5: a control frame's payload is at most 125 bytes, two of which are the code.
MAX_REASON_BYTES: Final = 123


class CloseCode(IntEnum):
    """Every code the gateway closes with."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    NODE_LEAVING = 4000
    SLOW_READER = 4001
    SILENT = 4002
    RESYNC = 4003
    TOKEN_EXPIRED = 4004
    OVERLOADED = 4005
    FLOODING = 4029
    UNAUTHENTICATED = 4500
    PROTOCOL_VIOLATION = 4501
    SUPERSEDED = 4502
    FORBIDDEN = 4503
    DISCONNECTED_BY_OPERATOR = 4504

    @property
    def reason(self) -> str:
        """The code's name on the wire."""
        return self.name.lower()


_DONE: Final = frozenset({1000, 1001})

# The client would do the same again and be closed again. 1008 and 1010 are never ours, but a proxy in between
# may send them.
_STOP: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})


def action(code: int) -> Action:
    """Say what a client does after a close with this code, also one that it does not know."""
    if code in _DONE:
        return "done"
    if code in _STOP or 4500 <= code <= 4999:
        return "stop"
    if code in (CloseCode.INTERNAL_ERROR, CloseCode.OVERLOADED):
        return "resume later"
    return "resume"


def reconnects(code: int) -> bool:
    """Whether a client comes back by itself; true of 1006, where no close frame was seen at all."""
    return action(code).startswith("resume")


def clip_reason(text: str) -> str:
    """Cut the text to what a close frame can hold, between characters."""
    return text.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
