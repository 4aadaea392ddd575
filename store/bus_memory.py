"""The bus of a gateway that is alone: what it offers comes back to it, a turn of the event loop later."""

import asyncio
from collections import deque
from typing import Final

import structlog

from store.bus import Receiver

# What may be offered in one turn of the loop. A group commit makes 512; beyond these bounds something is
# wrong, and whoever misses a message finds it in the log.
WAITING_PAYLOADS: Final = 100_000
WAITING_BYTES: Final = 64 * 1024 * 1024

_logger = structlog.get_logger("store.bus")


class MemoryBus:
    """Delivers in the order offered, from one callback per turn of the loop: no task, no timer per payload.

    Not from within `offer`: a receiver that offers would be entered again before it has finished, and the
    one who offers would have to wait for all who read.
    """

    def __init__(self) -> None:
        self._receiver: Receiver = _nobody
        self._is_open = False
        self._channels: set[str] = set()
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._waiting_bytes = 0
        self._turn: asyncio.Handle | None = None
        self._dropped = 0
        self._failures = 0

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False
        self._channels.clear()
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    async def subscribe(self, channel: str) -> None:
        self._channels.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)

    def offer(self, channel: str, payload: bytes) -> None:
        if channel not in self._channels:
            return  # nobody listens: as with every bus, it is gone
        if (
            not self._is_open
            or len(self._waiting) >= WAITING_PAYLOADS
            or self._waiting_bytes + len(payload) > WAITING_BYTES
        ):
            self._dropped += 1
            return
        self._waiting.append((channel, payload))
        self._waiting_bytes += len(payload)
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._deliver)

    @property
    def dropped(self) -> int:
        return self._dropped

    @property
    def failures(self) -> int:
        """How often the receiver raised: bugs."""
        return self._failures

    def _deliver(self) -> None:
        self._turn = None
        # Only what is here now. What the receiver itself offers waits for the next turn: others get theirs
        # in between.
        for _ in range(len(self._waiting)):
            channel, payload = self._waiting.popleft()
            self._waiting_bytes -= len(payload)
            try:
                self._receiver(channel, payload)
            except Exception:
                self._failures += 1
                # Each power of two: the first is told at once, and a million of them do not fill the disk.
                if self._failures & (self._failures - 1) == 0:
                    _logger.exception("receiver_failed", channel=channel, failures=self._failures)


def _nobody(channel: str, payload: bytes) -> None:
    """Who listens before the start."""
