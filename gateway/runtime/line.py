"""A line before a door: so many are let in each second, evenly, and whoever comes in between waits a moment.

For whom that would be too long is told when to come again, one after the other at the same rate: whoever
obeys finds room. Nobody is remembered; who ignores it has the chance of everybody else who comes.
"""

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Final

# Whoever is told to come comes at a whole second, most often (Retry-After has no others): a second's worth of
# them has to find room at once, and a quarter of a second more where clocks and networks differ. A client
# waits 5 s for an answer, and a balancer longer.
HOLD_S: Final = 1.5
# So long before the line is empty the first of those put off come: it never stands idle while they wait.
LEAD_S: Final = 0.25
# What has come due in so many seconds is let in at once: 26 of 500 take a loop some 5 ms. Where some wait,
# more is made up for: a loop that is busy, or is not run, wakes late, and would lose what was due meanwhile.
_BURST_S: Final = 0.05
_LATE_S: Final = 0.25

_log = logging.getLogger(__name__)

Later = Callable[[float, Callable[[], None]], object]


def _later(seconds: float, do: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, do)


class Line:
    """Lets in at most `per_s` in any second. Holds 1.5 s of those; puts others off by `horizon_s` at most."""

    def __init__(
        self, per_s: int, horizon_s: float, monotonic: Callable[[], float], later: Later = _later
    ) -> None:
        self._pace_s = 1 / per_s
        self._due = -math.inf  # when the next place is free, as far as the pace goes
        self._entered: deque[float] = deque(maxlen=per_s)  # when the last of them were let in
        self._room = math.ceil(per_s * HOLD_S)
        self._horizon_s = max(horizon_s, 1.0)
        self._monotonic = monotonic
        self._later = later
        self._waiting: deque[Callable[[], bool]] = deque()
        self._is_timed = False
        self._promised_until = -math.inf
        self.admitted = 0
        self.put_off = 0

    @property
    def waiting(self) -> int:
        """How many stand in it."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether whoever comes now is put off."""
        return len(self._waiting) >= self._room

    @property
    def ahead_s(self) -> float:
        """How far ahead places are promised."""
        return max(0.0, self._promised_until - self._monotonic())

    def join(self, enter: Callable[[], bool]) -> float | None:
        """Have `enter` called when its turn comes, now perhaps; it returns whether it has used its place.

        Where the line is full it is never called: the seconds after which to come again.
        """
        if self.is_full:
            return self.postpone()
        self._waiting.append(enter)
        if not self._is_timed:
            self._serve(_BURST_S)
        return None

    def postpone(self) -> float:
        """Give the next free place to somebody who goes away; the seconds until then."""
        self.put_off += 1
        now = self._monotonic()
        at = max(self._promised_until, now + LEAD_S) + self._pace_s
        if at - now > self._horizon_s:
            # More than there are places for, or somebody who only makes the line longer: by chance, so that
            # it gets no longer than this for anybody.
            return random.uniform(LEAD_S, self._horizon_s)  # noqa: S311 - spread, not a secret
        self._promised_until = at
        return at - now

    def _serve(self, late_s: float = _LATE_S) -> None:
        self._is_timed = False
        while self._waiting:
            wait = self._wait_s(late_s)
            if wait > 0.0:
                self._is_timed = True
                self._later(wait, self._serve)
                return
            # A place that nobody uses, because they have gone, is the next one's.
            if self._enters(self._waiting.popleft()):
                self.admitted += 1
                self._due += self._pace_s
                self._entered.append(self._monotonic())

    def _enters(self, enter: Callable[[], bool]) -> bool:
        try:
            return enter()
        except Exception:
            # A bug with one of them: those behind have no other who would wake them.
            _log.exception("whoever was let in failed")
            return True

    def _wait_s(self, late_s: float) -> float:
        """The seconds until one more may enter: at the pace, and never more than the rate within a second."""
        now = self._monotonic()
        self._due = max(self._due, now - late_s)
        wait = self._due - now
        if len(self._entered) == self._entered.maxlen:
            wait = max(wait, self._entered[0] + 1.0 - now)
        return wait
