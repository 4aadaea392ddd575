"""Evens out the connections of all nodes: after one more has come, clients stay where they were until asked.

It is planned once: who is above its share gives its surplus, who is below takes. So nobody is moved twice,
and two nodes never send their clients to each other.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from gateway.protocol.replies import rfc3339
from gateway.runtime.escort import CALM_PER_S, GONE_S, Escort, Step
from gateway.runtime.node_channel import Pick, Picked
from gateway.runtime.targets import Transfer, plan
from gateway.runtime.task_record import KEPT_MS, PATIENCE_MS, Kept, fetched, is_under_way, promptly, stored
from store.errors import Unavailable
from store.types import NodeEntry

if TYPE_CHECKING:
    from gateway.runtime.node import Node

# There is one of all nodes; it stands under this name, and under no tenant.
NAME: Final = "rebalance"
OF_THE_NODES: Final = ""
# A node that names nobody for so long has nobody any more whom it could give, or is gone; so is one that is
# not in the register for so long: it would be in it again with its next renewal.
DRY_S: Final = 3.0
# Beyond what its moves take at their pace.
MARGIN_S: Final = 15.0

_logger = structlog.get_logger("gateway.runtime")


class _Giving:
    """One transfer under way."""

    def __init__(self, transfer: Transfer, url: str, now: float) -> None:
        self.transfer = transfer
        self.url = url
        self.left = transfer.count
        self.heard_at = now
        self.seen_at = now  # both nodes, in the register


class Rebalance:
    """The one rebalancing that a node may be at. Asked for again, the running one is told."""

    def __init__(self, node: "Node", escort: Escort, turn: Callable[[], None]) -> None:
        self._node = node
        self._escort = escort
        self._turn = turn
        self._givings: list[_Giving] = []
        self._steps: dict[str, Step] = {}
        self._counts: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()  # by source
        self._before: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self._transfers: list[Transfer] = []
        self._begun = self._end = 0.0
        self._begun_at = self._ends_by = 0
        self._ended_at: int | None = None
        self._is_cut_short = False
        self._is_written = True
        self.is_running = False

    async def begin(self) -> dict[str, object]:
        """Begin, unless one is under way on any node. Unavailable."""
        live, clock = self._node.live, self._node.clock
        if not self.is_running:
            async with promptly():
                value = await live.task(OF_THE_NODES, NAME)
                if value is not None and is_under_way(value, clock.now_ms()):
                    return fetched(value, clock.now_ms())
                nodes = await live.nodes()
            if not self.is_running:  # while we waited
                self._start(nodes)
                with suppress(Unavailable):
                    async with promptly():
                        await self.write()
        return self.document()

    async def told(self) -> dict[str, object]:
        """How far the latest one has come, of whichever node. Unavailable."""
        if self.is_running:
            return self.document()
        async with promptly():
            value = await self._node.live.task(OF_THE_NODES, NAME)
        if value is None:
            return {"state": "none"} if not self._begun_at else self.document()
        return fetched(value, self._node.clock.now_ms())

    def document(self) -> dict[str, object]:
        """As an operator is told."""
        waiting = len(self._steps)
        left = sum(giving.left for giving in self._givings)
        over = "abandoned" if self._is_cut_short else "done"
        return {
            "state": "running" if self.is_running else over,
            "node": self._node.id,
            "begun_at": rfc3339(self._begun_at),
            "ends_by": rfc3339(self._ends_by),
            "ended_at": None if self._ended_at is None else rfc3339(self._ended_at),
            "transfers": [
                {"from": each.source, "to": each.target, "connections": each.count}
                for each in self._transfers
            ],
            "to_move": sum(each.count for each in self._transfers),
            "not_asked": left,
            "waiting": waiting,
            **{outcome: self._counts[outcome] for outcome in ("moved", "refused", "timed_out")},
            "before": self._before,
            "now": self._now,
        }

    def abandon(self) -> None:
        """Nobody sees to it any more: the node stops."""
        if self.is_running:
            self._is_cut_short = True
            self._over()

    async def write(self) -> None:
        """Store how far it has come, if that has changed. Unavailable."""
        if not self._is_written:
            kept = Kept(self._ends_by, not self.is_running, self.document())
            self._is_written = True  # what changes while we write is written next
            try:
                await self._node.live.put_task(OF_THE_NODES, NAME, stored(kept), ttl_ms=KEPT_MS)
            except (Unavailable, asyncio.CancelledError):
                self._is_written = False
                raise

    @property
    def is_to_be_told(self) -> bool:
        """Whether others believe that it is under way still, or something else that is not true."""
        return not self._is_written and self._node.clock.now_ms() < self._ends_by + PATIENCE_MS

    # -- its course

    def _start(self, nodes: Sequence[NodeEntry]) -> None:
        clock = self._node.clock
        self._transfers = plan(nodes)
        urls = {node.id: node.url or "" for node in nodes}
        now = self._begun = clock.monotonic()
        self._givings = [_Giving(each, urls[each.target], now) for each in self._transfers]
        surplus: Counter[str] = Counter()
        for each in self._transfers:
            surplus[each.source] += each.count
        pace_s = max(surplus.values(), default=0) / CALM_PER_S
        self._end = now + pace_s + MARGIN_S
        self._begun_at = clock.now_ms()
        lasts_s = pace_s + MARGIN_S + self._escort.deadline_s + GONE_S
        self._ends_by = self._begun_at + int(lasts_s * 1000)
        self._ended_at, self._is_cut_short = None, False
        self._steps.clear()
        self._counts.clear()
        self._asked.clear()
        self._before = self._now = {node.id: node.connections for node in nodes}
        self._is_written = False
        self.is_running = True
        _logger.info("rebalance_begun", connections=sum(surplus.values()), nodes=len(nodes))
        self._turn()

    def tick(self, nodes: Sequence[NodeEntry]) -> None:
        """Count who has arrived, and have the next ones named."""
        if not self.is_running:
            return
        self._is_written = False
        if nodes:
            self._now = {node.id: node.connections for node in nodes}
        for name, step in list(self._steps.items()):
            if step.outcome is not None:
                self._counts[step.outcome] += 1
                del self._steps[name]
        now = self._node.clock.monotonic()
        here = {node.id for node in nodes}
        leaving = {node.id for node in nodes if node.is_leaving}
        for giving in self._givings:
            ends = {giving.transfer.source, giving.transfer.target}
            if ends <= here:
                giving.seen_at = now
            # One that is not in the register may be there all the same: its data may have been lost.
            is_dry = now >= min(giving.heard_at, giving.seen_at) + DRY_S
            if is_dry or ends & leaving or now >= self._end:
                giving.left = 0
        self._givings = [giving for giving in self._givings if giving.left]
        for source, keep in {(each.transfer.source, each.transfer.keep) for each in self._givings}:
            if count := self._allowed(source, now):
                self._escort.say(source, Pick(self._node.id, count, keep))
        if not self._givings and not self._steps:
            self._over()

    def picked(self, named: Picked) -> None:
        """A node has named some of its connections: ask them, as many as are due."""
        now = self._node.clock.monotonic()
        fresh = [each for each in named.connections if each[0] not in self._steps]
        for giving in [each for each in self._givings if each.transfer.source == named.node]:
            count = min(giving.left, self._allowed(named.node, now))
            taken, fresh = fresh[:count], fresh[count:]
            if named.connections or not count:
                giving.heard_at = now
            target = giving.transfer.target
            steps = [Step(name, user, named.node, target, giving.url) for name, user in taken]
            self._escort.take(steps, "rebalance")
            self._steps.update((step.connection, step) for step in steps)
            self._asked[named.node] += len(steps)
            giving.left -= len(steps)

    def _allowed(self, source: str, now: float) -> int:
        """How many more of a node's connections may be asked by now."""
        due = int((now - self._begun) * CALM_PER_S) + 1 - self._asked[source]
        return max(0, min(due, self._escort.room))

    def _over(self) -> None:
        self.is_running = False
        self._givings.clear()
        self._ended_at = self._node.clock.now_ms()
        self._is_written = False
        seconds = round(self._node.clock.monotonic() - self._begun, 1)
        _logger.info("rebalance_ended", seconds=seconds, **self._counts)
