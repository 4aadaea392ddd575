"""Tickets: secrets that are good once, in place of a token.

Only the SHA-256 of a secret reaches a store. The secrets have 256 bits, so a plain hash cannot be searched.
"""

import hashlib
from typing import Final

import msgspec

from gateway.auth.identity import Identity
from gateway.clock import Clock
from gateway.ids import new_secret
from store.live import Live

# The time from the answer of POST /api/v1/tickets to the first frame, on a slow phone; PROTOCOL allows no
# more.
TICKET_TTL_MS: Final = 30_000

# Ours have 43 characters. What is longer was not made here, and hashing it would be work for nothing.
_LONGEST_SECRET: Final = 128


class Tickets:
    """One-time tickets. Whoever redeems one gets the identity that asked for it."""

    def __init__(self, live: Live, clock: Clock) -> None:
        self._live = live
        self._clock = clock

    async def issue(self, identity: Identity) -> tuple[str, int]:
        """Make a ticket for the identity; return it and the ms it is good for. `store.errors.Unavailable`."""
        ticket = new_secret()
        ttl_ms = min(TICKET_TTL_MS, max(1, identity.expires_at - self._clock.now_ms()))
        record = _Record(identity, self._clock.now_ms() + ttl_ms)
        entry = (digest(ticket), msgspec.msgpack.encode(record))
        await self._live.put_once("ticket", [entry], ttl_ms=ttl_ms)
        return ticket, ttl_ms

    async def redeem(self, ticket: str) -> Identity | None:
        """Use a ticket up. None: it never was one, it is spent, or its time is over."""
        if len(ticket) > _LONGEST_SECRET:
            return None
        value = await self._live.take_once("ticket", digest(ticket))
        if value is None:
            return None
        record = msgspec.msgpack.decode(value, type=_Record)
        # The store forgets by its own clock and in its own time; ours decides.
        return record.identity if self._clock.now_ms() < record.good_until else None


class _Record(msgspec.Struct, frozen=True, array_like=True):
    identity: Identity
    good_until: int


def digest(secret: str) -> str:
    """Hash a secret into the name it is stored under."""
    # A lone surrogate from JSON is not a character; it must not be an exception either.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
