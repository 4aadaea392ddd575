"""What a store may raise. Drivers' exceptions never leave a backend: they are translated, the cause kept."""


class StoreError(Exception):
    """Any failure of a store that its caller has to think about."""


class Unavailable(StoreError):
    """The backend cannot be reached or is too slow. Nothing is known to be wrong with the request: retry."""


class NotFound(StoreError):
    """The row does not exist, or not in this tenant: the two are not told apart."""


class Ended(StoreError):
    """The session has ended; `reason` is one of closed, expired, deleted."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the session has ended: {reason}")
        self.reason = reason


class VersionConflict(StoreError):
    """The row's version is not the one the caller expected; `version` is the present one."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the present version is {version}")
        self.version = version


class TakenOver(StoreError):
    """The exclusive session is not held under the epoch that the caller named; `epoch` is the present one."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the present epoch is {epoch}")
        self.epoch = epoch


class LimitReached(StoreError):
    """The write would exceed a quota; `limit` is the quota."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the limit of {limit} is reached")
        self.limit = limit


class Invalid(StoreError):
    """A value that cannot be stored, a lone surrogate for example. Retrying does not help."""


class SchemaRefused(StoreError):
    """This version cannot use the database; the message says why and what to do. Retrying does not help."""
