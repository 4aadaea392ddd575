"""How a node leaves: its clients are asked to move, a few at a time, and are served in full until they have.

Then whatever is in flight is committed and answered, and who is left is closed with 4000. Nothing here knows
of signals or of HTTP: `gateway.server` and the operations port begin a drain, and the first may hurry it.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import structlog

from gateway.protocol.close import CloseCode
from gateway.protocol.peer import State
from gateway.runtime.node_lease import RENEW_S
from store.errors import Unavailable

if TYPE_CHECKING:
    from gateway.runtime.connection import Connection
    from gateway.runtime.node import Node

# moved: went by itself after it was asked. closed: by us, at the end. left: went for any other reason.
Outcome = Literal["moved", "closed", "left"]
Phase = Literal["serving", "draining", "drained"]

# Clients are asked in batches of what is due in this time, and spread inside it by their slots.
BATCH_S: Final = 0.25
# A load balancer that looks each second and believes two looks knows by then; who came earlier would be sent
# here again, and refused.
LEAD_S: Final = 2.0
LEAD_SHARE: Final = 0.4
# The last are asked at this share of the window: what is left is theirs to move in, and to try twice.
ASKED_SHARE: Final = 0.7
# Few clients are not made to wait for the window's sake. Other nodes would take 500 connections a second; but
# where all nodes share two cores, messages were less late at 10 a second than at 25.
CALM_PER_S: Final = 10.0
# The committer answers within 4.25 s of an offer, whatever the log does.
FLUSH_LIMIT_S: Final = 4.5
# The register of nodes is asked so often whether there is another one that stays, and may take so long: where
# all are told to stop at once, each learns of the others within the lead, before anybody was asked to move.
LOOK_S: Final = 0.5
LOOK_LIMIT_S: Final = 1.0
# Others that have gone from the register without a word may be there all the same: it has lost its data, and
# they are in it again with their next renewal.
GONE_S: Final = RENEW_S + 1.0

_LEAVING: Final = "the node is leaving"
_WELCOME: Final = frozenset({State.OPEN, State.DRAINING})
# What a client closes with that has moved.
_GOODBYES: Final = frozenset({CloseCode.NORMAL, CloseCode.GOING_AWAY})

_logger = structlog.get_logger("gateway.runtime")

Pause = Callable[[asyncio.Event, float], Awaitable[None]]


class Progress(msgspec.Struct, frozen=True):
    """How far a drain has come. Of a node that serves, all counts but `connections` are 0."""

    phase: Phase
    connections: int  # that are open still
    asked: int
    moved: int
    closed: int
    left: int
    seconds: float  # since its beginning; once drained, that it took
    deadline_s: float  # until who is left is closed; 0 where nobody is waited for


async def pause(woken: asyncio.Event, seconds: float) -> None:
    """Wait for this time, or until woken."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return


def asked_by(begun: float, window_s: float, clients: int) -> tuple[float, float]:
    """Between which two moments `clients` are asked to move, of a drain that began at `begun`."""
    lead_s = min(LEAD_S, LEAD_SHARE * window_s)
    spread_s = min(clients / CALM_PER_S, ASKED_SHARE * window_s - lead_s)
    return begun + lead_s, begun + lead_s + spread_s


def batch(unasked: int, now: float, until: float) -> int:
    """How many are asked now, so that all are by `until`, as many in each batch."""
    batches = max(1, math.ceil((until - now) / BATCH_S))
    return math.ceil(unasked / batches)


def slots(count: int) -> list[int]:
    """One slot (ms) for each of a batch: evenly over its time, and by chance inside its own share."""
    share_ms = BATCH_S * 1000 / max(1, count)
    return [int((place + random.random()) * share_ms) for place in range(count)]  # noqa: S311 - no secret


class Drain:
    """The one drain of a node's life: begun once, by whoever is first; never called off.

    Owns its task: `finish` and `stop` return when it is gone.
    """

    def __init__(self, node: "Node", pause: Pause = pause) -> None:
        self._node = node
        self._pause = pause
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._asked: set[str] = set()  # ids of connections; as many as the node has at the most
        self._closed: set[str] = set()
        self._counts: Counter[Outcome] = Counter()
        self._is_hurried = False
        self._begun = self._end = 0.0
        self._took_s: float | None = None
        self._staying: set[str] = set()  # other nodes, as far as the register has told
        self._alone_since = math.inf

    @property
    def has_begun(self) -> bool:
        """Whether the node is leaving, or has nobody left."""
        return self._task is not None

    @property
    def counts(self) -> dict[str, int]:
        """What became of the connections, by outcome."""
        return {outcome: self._counts[outcome] for outcome in ("moved", "closed", "left")}

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        now = self._node.clock.monotonic()
        phase: Phase = "serving" if self._task is None else "draining" if self._took_s is None else "drained"
        since_s = 0.0 if self._task is None else now - self._begun
        return Progress(
            phase=phase,
            connections=len(self._node.connections),
            asked=len(self._asked),
            seconds=round(since_s if self._took_s is None else self._took_s, 3),
            deadline_s=round(max(0.0, self._end - now), 3) if phase == "draining" else 0.0,
            **self.counts,
        )

    def begin(self) -> None:
        """Begin, unless it has begun. Returns at once."""
        if self._task is not None:
            return
        self._begun = self._node.clock.monotonic()
        self._end = self._begun + self._node.settings.drain_s
        self._task = asyncio.get_running_loop().create_task(self._run(), name="drain")

    def hurry(self) -> None:
        """Wait for no client any more. What is in flight is answered all the same."""
        self._is_hurried = True
        self._woken.set()

    async def finish(self) -> None:
        """Begin unless it has begun, and return when it is over. Cancelled: it is cut short, and over."""
        self.begin()
        if self._task is not None:
            try:
                await asyncio.wait([self._task])
            except asyncio.CancelledError:
                await self.stop()
                raise

    async def stop(self) -> None:
        """Cut it short if it runs: everybody is closed. What was in flight is sent again by its clients."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._over()  # cancelled before its first step, it has closed nobody

    def departed(self, connection: "Connection", code: int) -> None:
        """A connection is gone."""
        if self._task is None:
            return
        if connection.id in self._closed:
            self._closed.discard(connection.id)
        elif connection.id in self._asked and (connection.is_handed_over or code in _GOODBYES):
            self._counts["moved"] += 1
        else:
            self._counts["left"] += 1
        if not self._node.connections:
            self._woken.set()

    # -- its course

    async def _run(self) -> None:
        node = self._node
        _logger.info("drain_begun", connections=self._here, window_s=node.settings.drain_s)
        try:
            # Who has not said hello loses nothing and comes back elsewhere. Who has is let in and asked to
            # move: its resume token may be used up already.
            for connection in list(node.connections.values()):
                if connection.peer.state is State.OPENING:
                    self._close(connection)
            if self._here:
                await self._tell()
                await self._move()
            await node.flush(FLUSH_LIMIT_S)
        except Exception:
            # A bug: those who are left are closed all the same, and come back elsewhere.
            _logger.exception("drain_failed")
        finally:
            self._over()

    def _over(self) -> None:
        """Close who is left, and say what became of everybody. Idempotent."""
        for connection in list(self._node.connections.values()):
            self._close(connection)
        if self._took_s is None:
            self._took_s = self._node.clock.monotonic() - self._begun
            seconds = round(self._took_s, 1)
            _logger.info("drain_ended", **self.counts, seconds=seconds, hurried=self._is_hurried)

    @property
    def _here(self) -> int:
        """Connections that are to move or to be closed."""
        return sum(not connection.is_over for connection in self._node.connections.values())

    async def _is_alone(self) -> bool:
        """Whether there is no other node to move to, as far as the register says: none, or none that stays.

        Then nobody waits: clients would come back to this one and be refused until it is gone.
        """
        node = self._node
        if not node.settings.drain_s:
            return True
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                entries = await node.live.nodes()
        except (Unavailable, TimeoutError):
            entries = []
        # A register that has lost us as well knows nothing.
        is_known = any(entry.id == node.id for entry in entries)
        self._staying -= {entry.id for entry in entries if entry.is_leaving}
        here = {entry.id for entry in entries if not entry.is_leaving and entry.id != node.id}
        self._staying |= here
        now = node.clock.monotonic()
        self._alone_since = math.inf if here or not is_known else min(now, self._alone_since)
        return is_known and not here and (not self._staying or now - self._alone_since >= GONE_S)

    async def _tell(self) -> None:
        """Have the register say that this node leaves. Should it not, others take it for one that stays."""
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                await self._node.lease.renew()
        except (Unavailable, TimeoutError) as error:
            _logger.warning("drain_not_registered", error=str(error))

    async def _move(self) -> None:
        """Ask everybody to move; return when nobody is left, or the window has passed, or it is hurried.

        And when there is no node any more to move to.
        """
        clock = self._node.clock
        first, last = asked_by(self._begun, self._node.settings.drain_s, self._here)
        look_at = -math.inf
        while self._here and not self._is_hurried:
            if clock.monotonic() >= look_at:
                if await self._is_alone():
                    return
                look_at = clock.monotonic() + LOOK_S
            now = clock.monotonic()
            if now >= self._end:
                return
            if now >= first:
                self._ask(now, last)
            next_at = max(min(first, look_at), now + BATCH_S)
            self._woken.clear()
            await self._pause(self._woken, min(next_at, self._end) - now)

    def _ask(self, now: float, until: float) -> None:
        """Ask the next batch, and whoever has been welcomed since."""
        unasked = [each for each in self._node.connections.values() if self._may_be_asked(each)]
        count = batch(len(unasked), now, until)
        deadline_ms = int((self._end - now) * 1000)
        for connection, slot_ms in zip(unasked, slots(count), strict=False):
            self._asked.add(connection.id)
            connection.ask_to_move("drain", min(slot_ms, deadline_ms), deadline_ms)

    def _may_be_asked(self, connection: "Connection") -> bool:
        return connection.id not in self._asked and connection.peer.state in _WELCOME

    def _close(self, connection: "Connection") -> None:
        if not connection.is_over:
            self._closed.add(connection.id)
            self._counts["closed"] += 1
            connection.hang(CloseCode.NODE_LEAVING, _LEAVING)
