"""What can go wrong, by whose fault it is."""


class ClientError(Exception):
    """The root of everything this package raises on purpose."""


class Refused(ClientError):
    """The gateway refused a request. `code` is one of the protocol's error codes."""

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class SessionEnded(Refused):
    """The session is over for this client. `code`: closed, expired, superseded, not_found, detached …"""


class OutboxFull(ClientError):
    """As much waits for its answer as may. Nothing was queued; wait, then try again."""


class RequestTimeout(ClientError):
    """No answer in time. The request may have taken effect."""


class ConnectionLost(ClientError):
    """The connection went while a request was under way. It may have taken effect."""


class Disconnected(ClientError):
    """The client is not connected and will not reconnect by itself.

    `code` is the close code, `status` the HTTP status where the upgrade was refused; None where there is
    none.
    """

    def __init__(self, reason: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.status = status


class ClientClosed(ClientError):
    """The client was closed. A message that was waiting for its ack may or may not have been stored."""
