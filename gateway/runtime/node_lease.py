"""A node's own lease: renewed while the process runs, fenced off where it has not run for longer than that.

The lease is what others judge by; the fence is what the node judges itself by, with its own monotonic clock.
They differ where Redis is away: nothing is renewed, but the process tries, and serves on.
"""

import asyncio
import math
import secrets
from typing import Final, Protocol

import structlog

from gateway.clock import Clock
from store.live import LOST_MS, Live, Roll, life_of
from store.types import NodeEntry

# DESIGN promise 6: everything is true again within 15 s of a death. At most 10 s until the lease is over, 2
# until somebody looks, and 3 to clean up. docs/redis.md argues these numbers.
LEASE_S: Final = 10.0
RENEW_S: Final = 2.0
# Who has not renewed for this long has had no Redis, and so maybe have all others: their leases are over, and
# they are not lost. Whoever comes back first lets everybody renew before it takes anybody for lost.
BROKEN_S: Final = 5.0
PATIENCE_S: Final = 6.0

_logger = structlog.get_logger("gateway.runtime")


class Holder(Protocol):
    """Whose lease it is."""

    @property
    def serving(self) -> int:
        """How many connections it has."""

    @property
    def is_leaving(self) -> bool:
        """Whether it takes no more of them."""

    def fenced(self) -> None:
        """The process has not run: nothing that it holds may be used any more. At once, without waiting."""

    def returned(self) -> None:
        """It was taken for lost while it served: what it has in the indexes is to be asserted again."""

    def bereaved(self, lost: tuple[str, ...]) -> None:
        """These have left something that is to be cleaned up."""


class NodeLease:
    """The lease of one node, under one incarnation after the other. From `fence_at` on it may not serve."""

    def __init__(
        self,
        live: Live,
        node_id: str,
        clock: Clock,
        holder: Holder,
        *,
        is_fenced: bool,
        url: str | None = None,
    ) -> None:
        self._live = live
        self._url = url
        self._clock = clock
        self._holder = holder
        self._node = node_id
        self._is_fenced = is_fenced
        self._renewing = asyncio.Lock()
        self._renewed_at = -math.inf
        self._unbroken_since = math.inf
        self._incarnate()
        self.fence_at = math.inf
        self.fences = self.returns = self.lost = 0

    @property
    def life(self) -> str:
        """What this node's entries are filed under."""
        return life_of(self._node, self.incarnation)

    @property
    def is_running(self) -> bool:
        """Whether the lease runs for sure: it was counted from before it was asked for."""
        return self._clock.monotonic() < self._renewed_at + LEASE_S

    @property
    def entry(self) -> NodeEntry:
        """This node as others see it."""
        return NodeEntry(
            id=self._node,
            url=self._url,
            started_at=self._started_at,
            connections=self._holder.serving,
            incarnation=self.incarnation,
            is_leaving=self._holder.is_leaving,
        )

    def watch(self) -> None:
        """Notice that the process has not run: before it serves anything else."""
        if (now := self._clock.monotonic()) >= self.fence_at:
            self._fence(now)

    async def renew(self) -> None:
        """Register, or renew. Unavailable; that it was tried is enough to go on serving."""
        self.watch()
        if self._is_fenced:
            self.fence_at = self._clock.monotonic() + LEASE_S
        async with self._renewing:
            if await self._renewed():
                await self._renewed()

    async def retire(self, grace_s: float) -> None:
        """Give the lease back: the node leaves, and others see to the rest after the grace. Unavailable."""
        self.fence_at = math.inf
        await self._live.retire_node(self.entry, grace_ms=int(grace_s * 1000))

    async def _renewed(self) -> bool:
        """Renew once. True: under another incarnation it has to be done again."""
        now, asked = self._clock.monotonic(), self.entry
        if now - self._renewed_at > BROKEN_S:
            self._unbroken_since = now
        buries = now - self._unbroken_since >= PATIENCE_S
        roll = await self._live.renew_node(asked, lease_ms=int(LEASE_S * 1000), buries=buries)
        self._mourn(roll)
        if asked.incarnation != self.incarnation:
            return True  # fenced meanwhile
        # That it was lost may be forgotten by now; that it was not, would be chance.
        is_forgotten = math.isfinite(self._renewed_at) and now - self._renewed_at >= LOST_MS / 1000
        if roll.is_lost or is_forgotten:
            self.returns += 1
            before = self.life
            self._incarnate()
            self._renewed_at = -math.inf
            _logger.warning("node_returned", lost=before, life=self.life, means=_RETURNED)
            self._holder.returned()
            return True
        self._renewed_at = now
        return False

    def _mourn(self, roll: Roll) -> None:
        for life in roll.found:
            self.lost += 1
            _logger.warning("node_lost", lost=life, lease_s=LEASE_S, means=_LOST)
        if roll.lost:
            self._holder.bereaved(roll.lost)

    def _fence(self, now: float) -> None:
        slept_s = now - self.fence_at + LEASE_S
        self.fences += 1
        before = self.life
        self._incarnate()
        self._renewed_at = -math.inf
        self.fence_at = now + LEASE_S
        _logger.warning("node_fenced", slept_s=round(slept_s, 1), was=before, life=self.life, means=_FENCED)
        self._holder.fenced()

    def _incarnate(self) -> None:
        # Random, and not counted: nothing that could be counted in survives the node.
        self.incarnation = secrets.token_hex(4)
        self._started_at = self._clock.now_ms()


_LOST: Final = (
    "it has not renewed its lease: killed, hung, or cut off from Redis. Its clients resume elsewhere; "
    "what it had in the indexes is being cleaned up"
)
_FENCED: Final = (
    "this process did not run for longer than its lease (stopped, swapped out, or its loop was blocked): all "
    "its connections are closed to resume, here or elsewhere"
)
_RETURNED: Final = (
    "other nodes took this one for lost while it was cut off from Redis; its connections stayed open, "
    "and are written into the indexes again"
)
