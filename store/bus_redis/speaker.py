"""The connection by which one server is given what is published: gathered, written at once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog

from store.bus_redis.dialect import Dialect
from store.bus_redis.link import Link
from store.bus_redis.listener import MOVES

# What may wait for a socket that takes no more. Beyond it new payloads are dropped and counted: a server that
# is this far behind is stopped or drowning, and whoever misses a message finds it in the log.
WAITING_PAYLOADS: Final = 50_000
WAITING_BYTES: Final = 16 * 1024 * 1024

# What may wait for a connection that was lost a moment ago: it is back within milliseconds or not soon. After
# that time everything is dropped: a late signal is worse than none, and messages are found in the log.
HELD_S: Final = 1.0
HELD_PAYLOADS: Final = 10_000
HELD_BYTES: Final = 4 * 1024 * 1024

# So many ticks of the bus without an answer to what was published: the connection is dead, unnoticed.
SILENT_TICKS: Final = 3

# How long a node that leaves waits for Redis to take what is left. A socket that is closed with something
# unread in it takes with it what is on its way.
FINISH_S: Final = 0.5

PARTS: Final = 3  # of one payload, as it is written
_END: Final = b"\r\n"

_logger = structlog.get_logger("store.bus")


class Counts:
    """What became of what was offered, for all connections of one bus."""

    def __init__(self) -> None:
        self.published = 0
        self.dropped = 0
        self.refused = 0  # by Redis; these are among the dropped

    def refuse(self, why: str) -> None:
        """Count one that Redis did not take."""
        self.dropped += 1
        self.refused += 1
        if self.refused & (self.refused - 1) == 0:  # as with receivers that fail
            _logger.warning("publish_refused", reason=why, refused=self.refused)


class Speaker:
    """Publishes. Replies are counted, and an error in them; nobody waits for one."""

    def __init__(self, dialect: Dialect, tag: bytes, counts: Counts) -> None:
        self.on_ready: Callable[[], None] = _nothing
        self.on_moved: Callable[[], None] = _nothing
        self._publish = dialect.publish
        self._tag = tag
        self._counts = counts
        self._link: Link | None = None
        self._probe = b""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._hold_until = asyncio.get_running_loop().time() + HELD_S
        self.unanswered = 0
        self._answers = 0
        self._silent_ticks = 0
        self._finishing: asyncio.Event | None = None

    @property
    def is_connected(self) -> bool:
        return self._link is not None

    def offer(self, wire: bytes, payload: bytes) -> bool:
        """Publish without waiting. False: it is above the bound, and gone."""
        head = self._head(wire, len(payload))
        if self._link is None:
            return self._hold(head, payload)
        return self._send(self._link, head, payload)

    def probe(self, wire: bytes) -> None:
        """Publish nothing, to oneself. It concerns this connection only: it waits for no other."""
        if self._link is not None:
            self._probe = self._head(wire, 0)
            self._send(self._link, self._probe, b"")

    def _head(self, wire: bytes, size: int) -> bytes:
        return b"%b%d\r\n%b\r\n$%d\r\n%b" % (
            self._publish,
            len(wire),
            wire,
            size + len(self._tag),
            self._tag,
        )

    def _send(self, link: Link, head: bytes, payload: bytes) -> bool:
        if (
            link.waiting >= WAITING_PAYLOADS * PARTS
            or link.waiting_bytes + len(head) + len(payload) > WAITING_BYTES
        ):
            return False
        self.unanswered += 1
        link.send(head, payload, _END)
        return True

    def _hold(self, head: bytes, payload: bytes) -> bool:
        if asyncio.get_running_loop().time() > self._hold_until:
            self._let_go()
            return False
        size = len(head) + len(payload)
        if len(self._held) >= HELD_PAYLOADS * PARTS or self._held_bytes + size > HELD_BYTES:
            return False
        self._held += (head, payload, _END)
        self._held_bytes += size
        return True

    def _let_go(self) -> None:
        self._counts.dropped += len(self._held) // PARTS
        self._held.clear()
        self._held_bytes = 0

    def tick(self) -> bool:
        """Once a second: does Redis answer?"""
        if self._link is None or not self.unanswered or self._answers:
            self._silent_ticks = 0
        else:
            self._silent_ticks += 1
        self._answers = 0
        if self._silent_ticks >= SILENT_TICKS and self._link is not None:
            self._link.abort("Redis has stopped answering")
            self.gone()
        if self._held and asyncio.get_running_loop().time() > self._hold_until:
            self._let_go()
        return self._link is not None and not self._silent_ticks

    async def finish(self) -> None:
        """Give Redis a moment to take what was offered last."""
        if self._link is not None and self.unanswered:
            self._finishing = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(FINISH_S):
                    await self._finishing.wait()

    # -- the connection

    async def ready(self, link: Link) -> None:
        self._link = link
        if asyncio.get_running_loop().time() > self._hold_until:
            self._let_go()
        self.unanswered = len(self._held) // PARTS
        self._silent_ticks = self._answers = 0
        link.send(*self._held)
        self._held.clear()
        self._held_bytes = 0
        self.on_ready()

    def gone(self) -> None:
        if (link := self._link) is not None:
            self._link = None
            self._hold_until = asyncio.get_running_loop().time() + HELD_S
            self._held_bytes, unsent = link.waiting_bytes, link.take_unsent()
            starts = [at for at in range(0, len(unsent), PARTS) if unsent[at] != self._probe]
            self._held = [part for at in starts for part in unsent[at : at + PARTS]]
            if self._held_bytes > HELD_BYTES or len(self._held) > HELD_PAYLOADS * PARTS:
                self._let_go()

    def failed(self) -> None:
        """Whoever listens to the same server finds out as well."""

    def take(self, reply: Any) -> None:
        self.unanswered -= 1
        self._answers += 1
        if not self.unanswered and self._finishing is not None:
            self._finishing.set()
        if type(reply) is not int:
            self._counts.refuse(str(reply))
            if str(reply).startswith(MOVES):
                self.on_moved()


def _nothing() -> None:
    """Who is told before the shard has said who."""
