"""Sessions that are used without a connection live on as well: whoever writes over HTTP is a sign of life."""

from typing import Final

import structlog

from gateway.clock import Clock
from gateway.runtime.sweeper import AHEAD_MS, AHEAD_SHARE
from store.errors import Unavailable
from store.expiring import Expiring
from store.log import Log
from store.types import Session

# Sessions whose stored expiry this node remembers. Above it the one that would be forgotten first is: it is
# then written once more than it need be.
KNOWN: Final = 10_000

_logger = structlog.get_logger("gateway.runtime")


class Lives:
    """Extends lives in the log, a little ahead as the sweeper does: each once in a tenth of its TTL."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        # By version too: a change of the TTL sets the expiry anew, and what was known is worth nothing.
        self._known: Expiring[tuple[str, int], int] = Expiring(clock.monotonic, KNOWN)

    async def show(self, session: Session) -> None:
        """Note a sign of life: a temporary session lives for its whole TTL from here on.

        A log that is away puts it off until the next one; nobody's request fails for it.
        """
        try:
            await self.extend(session)
        except Unavailable as error:
            _logger.debug("life_not_extended", session=session.id, error=str(error))

    async def extend(self, session: Session) -> int | None:
        """Have a temporary session live for its whole TTL from here on: so many ms. Unavailable."""
        if session.ttl_s is None:
            return None
        key = (session.id, session.version)
        ttl_ms = session.ttl_s * 1000
        due = self._clock.now_ms() + ttl_ms
        if (self._known.get(key) or 0) < due:
            expires_at = due + min(AHEAD_MS, int(ttl_ms * AHEAD_SHARE))
            await self._log.extend({session.id: expires_at})
            self._known.put(key, expires_at, ttl_ms)
        return ttl_ms
