"""When to try again: the waiting times of PROTOCOL, without a clock."""

from random import Random
from typing import Final

FIRST_S: Final = 0.25
BASE_S: Final = 0.5
CAP_S: Final = 20.0
# A connection that lived this long was good: the next loss starts from the beginning.
HEALTHY_S: Final = 10.0
# Where an overloaded gateway's clients start: U(0, 4 s) instead of U(0, 250 ms).
_OVERLOAD_ATTEMPT: Final = 4


def full_jitter(random: Random, n: int) -> float:
    """U(0, min(20 s, 0.5 s · 2ⁿ))."""
    # Above 2^6 the cap holds anyway; a client that is offline for a week must not compute 2^100000.
    return random.uniform(0.0, min(CAP_S, BASE_S * 2 ** min(n, 6)))


class Backoff:
    """The delays of one client's reconnects: first U(0, 250 ms), then full jitter, growing until `reset`."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._attempt = 0

    @property
    def attempt(self) -> int:
        """How many delays were given since the last good connection."""
        return self._attempt

    def reset(self) -> None:
        """Start from the beginning: the connection was healthy."""
        self._attempt = 0

    def delay(self, *, at_least: float = 0.0, overloaded: bool = False) -> float:
        """Give the next delay in seconds. `at_least`: what the gateway asked for; our jitter is added."""
        if overloaded:
            self._attempt = max(self._attempt, _OVERLOAD_ATTEMPT)
        n = self._attempt
        self._attempt += 1
        # On top of a retry_after the small jitter is enough: the gateway has spread its clients already.
        if n == 0 or at_least > 0.0:
            return at_least + self._random.uniform(0.0, FIRST_S)
        return full_jitter(self._random, n - 1)
