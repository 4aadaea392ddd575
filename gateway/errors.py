"""What may go wrong with a request, and what its sender may be told. Wire codes as in docs/protocol.md."""

from typing import ClassVar, Literal

ErrorCode = Literal[
    "bad_request",
    "too_large",
    "unknown_type",
    "unauthenticated",
    "forbidden",
    "not_found",
    "id_conflict",
    "not_attached",
    "closed",
    "expired",
    "superseded",
    "limit_reached",
    "rate_limited",
    "unavailable",
    "internal",
]


class GatewayError(Exception):
    """A request's fault, told to its sender. The message says what to do and holds no secret."""

    code: ClassVar[ErrorCode] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms


class BadRequest(GatewayError):
    code = "bad_request"


class TooLarge(GatewayError):
    code = "too_large"


class Unauthenticated(GatewayError):
    code = "unauthenticated"


class Forbidden(GatewayError):
    code = "forbidden"


class NotFound(GatewayError):
    """Does not exist, or is not yours: the two are not told apart."""

    code = "not_found"


class Conflict(GatewayError):
    """The version the caller expected is no longer the present one."""

    code = "id_conflict"


class NotAttached(GatewayError):
    code = "not_attached"


class SessionClosed(GatewayError):
    code = "closed"


class SessionExpired(GatewayError):
    code = "expired"


class Superseded(GatewayError):
    code = "superseded"


class LimitReached(GatewayError):
    code = "limit_reached"


class RateLimited(GatewayError):
    code = "rate_limited"
    retryable = True


class Unavailable(GatewayError):
    """A store did not answer; nothing was acked. The same request may be sent again."""

    code = "unavailable"
    retryable = True
