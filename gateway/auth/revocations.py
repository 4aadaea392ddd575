"""Whose tokens are no longer good: a node's copy of what the log holds, kept up by `refresh`."""

from typing import Final

from gateway.auth.identity import Identity
from gateway.auth.tokens import LEEWAY_MS, MAX_TOKEN_LIFE_MS
from gateway.clock import Clock
from store.log import Log
from store.types import Revocation

_PAGE: Final = 1000

# A token that lives longer is refused at the door, so a revocation this old has no token left to hold
# against. That is the bound: the copy holds at most one entry for each user revoked within it, some 200 bytes
# each.
_KEPT_MS: Final = MAX_TOKEN_LIFE_MS + 2 * LEEWAY_MS


class Revocations:
    """A node's copy of the revocations: for each user the moment before which tokens are worthless."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._before: dict[tuple[str, str], int] = {}
        self._after = 0

    def __len__(self) -> int:
        return len(self._before)

    async def start(self) -> None:
        """Read all revocations. `store.errors.Unavailable`: serve nobody before this has succeeded."""
        await self.refresh()

    async def refresh(self) -> list[Revocation]:
        """Read those made since, here or elsewhere; return the ones that say something new.

        Close the connections for which `holds` is now false, not all of the user's: some have newer tokens.
        """
        told = []
        while True:
            page = await self._log.revocations(after=self._after, limit=_PAGE)
            for revocation in page:
                self._after = revocation.id
                if self._note(revocation):
                    told.append(revocation)
            if len(page) < _PAGE:
                break
        self._forget_old()
        return told

    def holds(self, identity: Identity) -> bool:
        """Whether the identity's token is still good."""
        before = self._before.get((identity.tenant, identity.user))
        return before is None or identity.issued_at >= before

    async def revoke(self, tenant: str, user: str) -> Revocation:
        """Make all tokens issued until now worthless: here at once, on other nodes with their next `refresh`.

        A JWT's iat is often in whole seconds. One issued in the second of the revocation looks older and is
        refused, whether it came before or after: we cannot tell, and the other choice would let a stolen one
        live. Tokens minted here have iat in ms and do not suffer from it.
        """
        # + 1: tokens of this very millisecond are among those that exist.
        revocation = await self._log.revoke(tenant, user, before=self._clock.now_ms() + 1)
        self._note(revocation)
        return revocation

    def _note(self, revocation: Revocation) -> bool:
        whose = (revocation.tenant, revocation.user)
        if revocation.before <= self._before.get(whose, 0):
            return False
        self._before[whose] = revocation.before
        return True

    def _forget_old(self) -> None:
        oldest = self._clock.now_ms() - _KEPT_MS
        old = [whose for whose, before in self._before.items() if before < oldest]
        for whose in old:
            del self._before[whose]
