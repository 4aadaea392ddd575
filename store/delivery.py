"""Hands payloads to the receiver of a bus: its own a turn of the event loop later, none of them from `offer`.

Every bus has one. What nodes tell each other is the bus's own business.
"""

import asyncio
from collections import deque
from time import monotonic
from typing import Final

import structlog

from store.bus import OnGap, Receiver

# What may be waiting for its turn. A group commit makes 512; beyond these bounds something is wrong, and
# whoever misses a message finds it in the log.
WAITING_PAYLOADS: Final = 100_000
WAITING_BYTES: Final = 64 * 1024 * 1024

# How long one turn of the loop may be given to payloads. Sockets, timers and heartbeats get theirs between;
# DESIGN's p50 from node to node is 5 ms, and this is a part of it.
SLICE_S: Final = 0.002

_logger = structlog.get_logger("store.bus")


class Delivery:
    """Delivers in the order offered, from one callback per turn of the loop: no task, no timer per payload.

    Not from within `offer`: a receiver that offers would be entered again before it has finished, and the
    one who offers would have to wait for all who read.
    """

    def __init__(self) -> None:
        self._receiver: Receiver = _nobody
        self._on_gap: OnGap = _nothing
        self._is_open = False
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._waiting_bytes = 0
        self._turn: asyncio.Handle | None = None
        self.received = 0
        self.gaps = 0
        self.failures = 0  # how often the receiver raised: bugs

    @property
    def is_open(self) -> bool:
        """Whether anything is delivered."""
        return self._is_open

    def start(self, receiver: Receiver, on_gap: OnGap) -> None:
        """Deliver from now on."""
        self._receiver = receiver
        self._on_gap = on_gap
        self._is_open = True

    def close(self) -> None:
        """Deliver nothing more. Idempotent."""
        self._is_open = False
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def offer(self, channel: str, payload: bytes) -> bool:
        """Deliver a turn later. False: it is above the bound, and gone."""
        if len(self._waiting) >= WAITING_PAYLOADS or self._waiting_bytes + len(payload) > WAITING_BYTES:
            return False
        self._waiting.append((channel, payload))
        self._waiting_bytes += len(payload)
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._deliver)
        return True

    def hand(self, channel: str, payload: bytes) -> None:
        """Deliver at once; never called from within `offer`."""
        if not self._is_open:
            return
        self.received += 1
        try:
            self._receiver(channel, payload)
        except Exception:
            self.failures += 1
            # Each power of two: the first is told at once, and a million of them do not fill the disk.
            if self.failures & (self.failures - 1) == 0:
                _logger.exception("receiver_failed", channel=channel, failures=self.failures)

    def gap(self) -> None:
        """Tell that payloads may have been lost."""
        if not self._is_open:
            return
        self.gaps += 1
        try:
            self._on_gap()
        except Exception:
            _logger.exception("gap_failed")

    def _deliver(self) -> None:
        self._turn = None
        # Only what is here now. What the receiver itself offers waits for the next turn: others get theirs
        # in between.
        until = monotonic() + SLICE_S
        for _ in range(len(self._waiting)):
            if not self._waiting:
                return  # the receiver has closed the bus
            channel, payload = self._waiting.popleft()
            self._waiting_bytes -= len(payload)
            self.hand(channel, payload)
            if monotonic() > until:
                break
        if self._waiting and self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._deliver)


def _nobody(channel: str, payload: bytes) -> None:
    """Who listens before the start."""


def _nothing() -> None:
    """Who is told of gaps before the start."""
