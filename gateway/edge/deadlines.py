"""One timing wheel for all deadlines of a node: no timer, task or call_later per connection.

An entry is filed under the 250 ms slot of its deadline; one task turns the wheel. Nothing is ever taken out:
an entry that was filed again, or is over, is recognised when its old slot comes by.
"""

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import Final, Protocol

# A quarter of a second is far below what any deadline here is about (seconds), and coarse enough to cost
# nothing.
SLOT_S: Final = 0.25

# 64 s: the longest of the usual deadlines (60 s of silence) fits. What lies further is filed at the horizon
# and again there.
_SLOTS: Final = 256

_log = logging.getLogger(__name__)


class Entry(Protocol):
    """What can be filed. `filed` belongs to the wheel: the tick the entry waits for."""

    filed: int

    def check(self, now: float) -> float:
        """Act on what is due; return the monotonic time of the next deadline, `math.inf` for none."""


class Wheel:
    """Files entries by deadline and checks them when it has come, up to one slot late, never early."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._slots: list[list[Entry]] = [[] for _ in range(_SLOTS)]
        self._tick = int(monotonic() / SLOT_S)

    @property
    def filed(self) -> int:
        """How many entries wait. Counted by going through all: for tests and people."""
        entries = ((n, entry.filed) for n, slot in enumerate(self._slots) for entry in slot)
        return sum(tick >= 0 and tick % _SLOTS == n for n, tick in entries)

    def add(self, entry: Entry, when: float) -> None:
        """File an entry, or file it anew: only the latest filing counts."""
        if when == inf:
            entry.filed = -1
            return
        # Rounded up, so that a check never comes before the deadline it is for.
        tick = min(max(int(when / SLOT_S) + 1, self._tick + 1), self._tick + _SLOTS - 1)
        entry.filed = tick
        self._slots[tick % _SLOTS].append(entry)

    def hasten(self, entry: Entry, when: float) -> None:
        """File an entry anew if that brings its check nearer. May be called often."""
        if entry.filed < 0 or int(when / SLOT_S) + 1 < entry.filed:
            self.add(entry, when)

    def turn(self) -> None:
        """Check every entry whose deadline has passed."""
        now = self._monotonic()
        last = int(now / SLOT_S)
        # After a long sleep of the whole machine one turn around visits every slot.
        for tick in range(max(self._tick + 1, last - _SLOTS + 1), last + 1):
            # Before the checks: what they file must land behind the hand.
            self._tick = tick
            slot, self._slots[tick % _SLOTS] = self._slots[tick % _SLOTS], []
            for entry in slot:
                if entry.filed <= last and entry.filed >= 0:
                    self._check(entry, now)

    async def run(self) -> None:
        """Turn for ever."""
        while True:
            # To the next edge of a slot, so that a late turn does not make all later ones late.
            await asyncio.sleep(SLOT_S - self._monotonic() % SLOT_S)
            self.turn()

    def _check(self, entry: Entry, now: float) -> None:
        # Not filed while it is checked: the nearest of what is said in `check` and what it returns counts.
        entry.filed = -1
        try:
            when = entry.check(now)
        except Exception:
            _log.exception("deadline check failed")
            return
        if when < inf:
            self.hasten(entry, when)  # it may have been filed in `check`, for a deadline that is further away
