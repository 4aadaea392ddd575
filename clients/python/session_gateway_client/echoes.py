"""What both connections of a move bring, and has no seq to be known by: signals, presence, read markers."""

from collections import deque
from typing import Final

from session_gateway_client.clock import Clock
from session_gateway_client.link import Link
from session_gateway_client.values import Frame

# Two nodes bring the same within milliseconds of each other; what is as old as this comes from one only.
APART_S: Final = 2.0
# The last ones taken. Of a flood above this some may be given twice in the moment of a move.
KEPT: Final = 64


class Echoes:
    """Remembers for a moment what was taken from one link, to know it again when another one brings it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._taken: deque[tuple[float, Link, Frame]] = deque(maxlen=KEPT)

    def takes(self, link: Link, frame: Frame) -> bool:
        """Whether this is news, on the link whose frames count."""
        if self.passes(link, frame):
            return False
        self._taken.append((self._clock.monotonic(), link, frame))
        return True

    def passes(self, link: Link, frame: Frame) -> bool:
        """Whether a link that overlapped with this one has brought it: its echo, of which there is one."""
        oldest = self._clock.monotonic() - APART_S
        while self._taken and self._taken[0][0] < oldest:
            self._taken.popleft()
        for place, (_, other, known) in enumerate(self._taken):
            # One that was lost before this one came has no echo: what it brought may well happen again.
            if other is not link and other.closed_at >= link.opened_at and known == frame:
                del self._taken[place]
                return True
        return False
