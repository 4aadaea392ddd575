"""Messages on their way: kept until acked or finally refused, resent with the same id. No I/O, no clock."""

import asyncio
import heapq
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from session_gateway_client.backoff import full_jitter
from session_gateway_client.errors import ClientError, OutboxFull, Refused
from session_gateway_client.values import Ack, Unacked

# How many may be in flight over all sessions: below the gateway's burst of 100 frames, so that a resend after
# a reconnect is not refused as a flood.
WIDEST: Final = 64

# One connection; the outbox only compares it.
Carrier = object


class Entry:
    """One message that waits for its ack. Ordered by `n`, the order of the `put` calls."""

    __slots__ = (
        "carrier",
        "id",
        "n",
        "outcome",
        "refusals",
        "sent_at",
        "session",
        "size",
        "text",
        "transmissions",
        "waiters",
    )

    def __init__(self, n: int, session: str, id: str, text: str) -> None:
        self.n = n
        self.session = session
        self.id = id
        self.text = text
        self.size = len(text.encode())
        self.outcome: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        # Nobody may be waiting any more when it is refused; that is then no forgotten exception.
        self.outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.carrier: Carrier | None = None
        self.sent_at = 0.0
        self.transmissions = 0
        self.refusals = 0
        self.waiters = 0

    def __lt__(self, other: "Entry") -> bool:
        return self.n < other.n


class _Lane:
    """The messages of one session: those in flight, and those that wait, oldest first."""

    __slots__ = ("flying", "held_until", "is_retrying", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Entry] = []
        self.flying: dict[str, Entry] = {}
        self.held_until = -math.inf
        self.is_retrying = False

    def may_send(self, window: int, now: float) -> bool:
        if not self.waiting or len(self.flying) >= window:
            return False
        # One of this session was refused for now: what is in flight behind it comes home first, then it goes
        # again, before anything newer.
        return not (self.is_retrying and self.flying) and now >= self.held_until


class Outbox:
    """All unacked messages of one client.

    Order: messages of one session are transmitted in `put` order, and after a lost connection again in that
    order. With `window` 1 none leaves before the one before it is acked, so the order holds whatever is
    refused on the way.
    Bound: `max_messages` and `max_bytes`; beyond it `put` raises OutboxFull and nothing is queued.
    """

    def __init__(self, *, max_messages: int, max_bytes: int, window: int, random: Random) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._window = window
        self._random = random
        self._lanes: dict[str, _Lane] = {}
        self._entries: dict[str, Entry] = {}
        self._bytes = 0
        self._n = 0
        self._flying = 0
        self._width = WIDEST
        self._emptied: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Unacked]:
        for entry in sorted(self._entries.values()):
            yield Unacked(entry.session, entry.id, entry.transmissions > 0)

    # -- what senders do

    def put(self, session: str, id: str, text: str) -> Entry:
        """Queue a message. The same under the id of a waiting one joins it; another one is a ValueError."""
        known = self._entries.get(id)
        if known is not None:
            if (known.session, known.text) != (session, text):
                raise ValueError(f"the id {id!r} belongs to another message that waits for its ack")
            return known
        entry = Entry(self._n, session, id, text)
        if len(self._entries) >= self._max_messages or self._bytes + entry.size > self._max_bytes:
            raise OutboxFull(
                f"{len(self._entries)} messages ({self._bytes} bytes) wait for their ack; "
                f"at most {self._max_messages} ({self._max_bytes} bytes) may"
            )
        self._n += 1
        self._entries[id] = entry
        self._bytes += entry.size
        heapq.heappush(self._lanes.setdefault(session, _Lane()).waiting, entry)
        return entry

    async def ack_of(self, entry: Entry) -> Ack:
        """Wait until it is acked; raises when it is finally refused.

        Cancellation: a message that never left is taken back. One that did may be stored: it stays, and is
        sent again until its fate is known, whoever waits for that.
        """
        entry.waiters += 1
        try:
            return await asyncio.shield(entry.outcome)
        except asyncio.CancelledError:
            if entry.waiters == 1 and not entry.transmissions and entry.id in self._entries:
                entry.outcome.cancel()
                self._forget(entry)
            raise
        finally:
            entry.waiters -= 1

    async def emptied(self, session: str | None = None) -> None:
        """Return when nothing (of this session) waits any more."""
        while self._lanes if session is None else session in self._lanes:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._emptied.add(waiter)
            try:
                await waiter
            finally:
                self._emptied.discard(waiter)

    # -- what connections do

    def next(self, carrier: Carrier, may_carry: Callable[[str], bool], now: float) -> Entry | None:
        """Give the next message to transmit, now in flight on `carrier`, of a session that it may carry."""
        if self._flying >= self._width:
            return None
        ready = [
            lane.waiting[0]
            for session, lane in self._lanes.items()
            if lane.may_send(self._window, now) and may_carry(session)
        ]
        if not ready:
            return None
        lane = self._lanes[min(ready).session]
        entry = heapq.heappop(lane.waiting)
        lane.flying[entry.id] = entry
        lane.is_retrying = False
        entry.carrier, entry.sent_at = carrier, now
        entry.transmissions += 1
        self._flying += 1
        return entry

    def wait_s(self, now: float) -> float:
        """Seconds until a message that is held back may go again; inf when none is."""
        held = [lane.held_until for lane in self._lanes.values() if lane.waiting and lane.held_until > now]
        return min(held) - now if held else math.inf

    def acked(self, ack: Ack) -> bool:
        """The gateway has committed it. False when nobody waits for that (it was acked before)."""
        entry = self._entries.get(ack.id)
        if entry is None or entry.session != ack.session:
            return False
        self._width = min(WIDEST, self._width + 1)
        self._land(entry)
        self._forget(entry)
        if not entry.outcome.done():
            entry.outcome.set_result(ack)
        return True

    def refused(self, id: str, error: Refused, now: float) -> bool:
        """The gateway refused it: kept for another try if that may help, else over. False: unknown id."""
        entry = self._entries.get(id)
        if entry is None:
            return False
        self._land(entry)
        if not error.retryable:
            self._fail(entry, error)
            return True
        # Too fast, or too much: one at a time, and one more with every ack.
        self._width = 1
        lane = self._lanes[entry.session]
        if entry not in lane.waiting:
            heapq.heappush(lane.waiting, entry)
        entry.refusals += 1
        lane.is_retrying = True
        delay = error.retry_after_s + full_jitter(self._random, entry.refusals - 1)
        lane.held_until = max(lane.held_until, now + delay)
        return True

    def lost(self, carrier: Carrier) -> None:
        """The connection is gone: what was in flight on it goes again, in order, with the same ids."""
        for lane in self._lanes.values():
            for entry in [entry for entry in lane.flying.values() if entry.carrier is carrier]:
                self._land(entry)
                heapq.heappush(lane.waiting, entry)

    def oldest(self, carrier: Carrier) -> float | None:
        """When the oldest message in flight on `carrier` was transmitted; None when there is none."""
        return min((entry.sent_at for entry in self._in_flight(carrier)), default=None)

    def is_flying(self, carrier: Carrier) -> bool:
        """Whether an ack is still due on `carrier`."""
        return any(True for _ in self._in_flight(carrier))

    # -- the end

    def abandon(self, session: str, error: ClientError) -> None:
        """The session is over: refuse what never left. What did stays until the gateway tells its fate."""
        lane = self._lanes.get(session)
        for entry in list(lane.waiting) if lane is not None else ():
            if not entry.transmissions:
                self._fail(entry, error)

    def close(self, error: ClientError) -> None:
        """Nothing will be sent any more: tell everybody who waits."""
        for entry in sorted(self._entries.values()):
            self._land(entry)
            self._fail(entry, error)

    def _in_flight(self, carrier: Carrier) -> Iterator[Entry]:
        for lane in self._lanes.values():
            for entry in lane.flying.values():
                if entry.carrier is carrier:
                    yield entry

    def _land(self, entry: Entry) -> None:
        if self._lanes[entry.session].flying.pop(entry.id, None) is not None:
            self._flying -= 1
        entry.carrier = None

    def _fail(self, entry: Entry, error: ClientError) -> None:
        self._forget(entry)
        if not entry.outcome.done():
            entry.outcome.set_exception(error)

    def _forget(self, entry: Entry) -> None:
        del self._entries[entry.id]
        self._bytes -= entry.size
        lane = self._lanes[entry.session]
        if entry in lane.waiting:
            # Taken back, or acked on an old connection after it was queued again for the new one.
            lane.waiting.remove(entry)
            heapq.heapify(lane.waiting)
        if not lane.waiting and not lane.flying:
            del self._lanes[entry.session]
        for waiter in self._emptied:
            if not waiter.done():
                waiter.set_result(None)
