"""How a connection ended, and whether to come back. The table of PROTOCOL, part «Errors and closing»."""

from dataclasses import dataclass
from typing import Final

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
ABNORMAL: Final = 1006
INTERNAL_ERROR: Final = 1011
SILENT: Final = 4002
OVERLOADED: Final = 4005

# The peer, or we, broke a rule of the protocol: the same again would end the same way. The gateway never
# sends 1008 and 1010; a proxy in between may.
_BROKEN: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
# Refused before the upgrade for a reason that does not pass by waiting.
_FINAL_STATUSES: Final = frozenset({400, 401, 403, 404, 405, 410, 426})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of one connection, or of the attempt to make one.

    `code` is None where no close frame was seen, `status` is set where the upgrade was answered otherwise.
    `retry_after_s` is what the gateway asked for.
    """

    code: int | None = None
    reason: str = ""
    status: int | None = None
    retry_after_s: float = 0.0
    is_final: bool = False

    @property
    def reconnects(self) -> bool:
        """Whether the client comes back by itself."""
        if self.is_final:
            return False
        if self.status is not None:
            return self.status not in _FINAL_STATUSES
        return reconnects(self.code)

    @property
    def is_overload(self) -> bool:
        """Whether to stay away longer than usual."""
        return self.code in (OVERLOADED, INTERNAL_ERROR)

    def __str__(self) -> str:
        if self.status is not None:
            return f"HTTP {self.status} {self.reason}".rstrip()
        if self.code is None:
            return self.reason or "connection lost"
        return f"{self.code} {self.reason}".rstrip()


def reconnects(code: int | None) -> bool:
    """Whether a client comes back after this close code. None: the connection just went.

    4000–4499 reconnect and 4500–4999 do not, also for codes this client does not know.
    """
    if code is None:
        return True
    if 4500 <= code <= 4999:
        return False
    return code not in _BROKEN and code not in (NORMAL, GOING_AWAY)
