"""Cleans up what lost nodes have left in the indexes, together with all other survivors, each entry once."""

import asyncio
from typing import Final

import structlog

from gateway.fanout.presence import Presence
from store.errors import Unavailable
from store.live import Live

# Connections in one share: four calls of a millisecond, and the leaves of their users.
SHARE: Final = 100
# Shares under way at a time: one waits for Redis while another tells who has left.
TOGETHER: Final = 4
# A share takes some 50 ms. Who has not released it by then has died as well, and it is taken again.
CLAIM_MS: Final = 3_000
# Lives that wait. There are as many as nodes at most; what is beyond stands in the next answer again.
WAITING: Final = 100

_logger = structlog.get_logger("gateway.runtime")


class Cleaning:
    """One task: takes shares until nothing is left. `entries` counts what it took out of the indexes."""

    def __init__(self, live: Live, presence: Presence, window_ms: int) -> None:
        self._live = live
        self._presence = presence
        self._window_ms = window_ms
        self._waiting: dict[str, None] = {}
        self._asked = asyncio.Event()
        self.entries = 0
        self.failures = 0

    def ask(self, lives: tuple[str, ...]) -> None:
        """Have these cleaned up."""
        self._waiting.update(dict.fromkeys(lives[: WAITING - len(self._waiting)]))
        self._asked.set()

    async def run(self) -> None:
        """Clean up whatever is asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._waiting:
                life = next(iter(self._waiting))
                try:
                    await self.clean(life)
                except Unavailable:
                    self.failures += 1  # with the next renewal it is asked for again
                self._waiting.pop(life, None)

    async def clean(self, life: str) -> None:
        """Clean up what one lost node has left and nobody else is at work on. Unavailable: the rest waits."""
        before = self.entries
        outcomes = await asyncio.gather(
            *(self._shares(life) for _ in range(TOGETHER)), return_exceptions=True
        )
        if True in outcomes:
            _logger.info("node_cleaned", lost=life, entries_here=self.entries - before)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _shares(self, life: str) -> bool:
        """Take one share after the other. True: the last of all was among them."""
        while True:
            remains = await self._live.take_lost(
                life, limit=SHARE, claim_ms=CLAIM_MS, window_ms=self._window_ms
            )
            # Their grace has run out with the lease.
            await self._presence.lost(remains.leaves)
            is_last = await self._live.release_lost(remains)
            self.entries += remains.cleaned
            if is_last or remains.is_empty:
                return is_last
