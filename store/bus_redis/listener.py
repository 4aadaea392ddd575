"""The connection by which one server's payloads arrive: what it is subscribed to, and what is said there."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog

from store.bus_redis.dialect import Dialect
from store.bus_redis.link import Link
from store.errors import Unavailable

# Subscriptions that go out together after a reconnection; the next ones when these are confirmed. Redis
# takes them at a microsecond each, and our own turn of the loop stays under a millisecond.
BATCH: Final = 500

# How long a confirmation may take: longer than a storm of ten thousand does on a busy machine. What takes
# longer is a fault, and the caller must not stand behind it.
CONFIRM_S: Final = 2.0

# The origin, before every payload: what one's own bus has published is told from it and passed over.
TAG_BYTES: Final = 8

# What Redis says when a slot is served elsewhere, or by nobody at the moment.
MOVES: Final = ("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN")
NO_LINK: Final = "there is no connection to Redis at the moment"
MOVED: Final = "the channel is served by another node of the Redis Cluster, which is being looked for"

_logger = structlog.get_logger("store.bus")


class Listener:
    """What is held is subscribed on every new connection, before the connection counts as ready.

    Redis answers commands in order, and says for an error not what it was about: hence the queue of orders.
    """

    def __init__(self, dialect: Dialect, tag: bytes, hand: Callable[[str, bytes], None]) -> None:
        self.held: dict[bytes, str] = {}
        self.heard = 0
        self.on_ready: Callable[[list[bytes]], None] = _ignored  # told what had to be subscribed
        self.on_gone: Callable[[], None] = _nothing
        self.on_failed: Callable[[], None] = _nothing
        self.on_echo: Callable[[bytes], None] = _ignored
        self.on_moved: Callable[[], None] = _nothing
        self._words = dialect
        self._message = dialect.message
        self._tag = tag
        self._hand = hand
        self._link: Link | None = None
        # None: confirmed. Otherwise the future says why not, or nothing.
        self._asked: dict[bytes, asyncio.Future[str] | None] = {}
        self._orders: deque[tuple[bytes, asyncio.Future[str] | None]] = deque()
        self._catching_up = asyncio.Lock()

    # -- what is held

    def hold(self, wire: bytes, name: str) -> None:
        """Be subscribed from the next connection on; `confirm` does it now."""
        self.held[wire] = name

    def release(self, wire: bytes) -> None:
        """Be subscribed no longer."""
        self.held.pop(wire, None)
        if self._link is not None and wire in self._asked:
            del self._asked[wire]
            self._order(self._link, self._words.unsubscribe, wire, None)

    async def confirm(self, wire: bytes) -> None:
        """Wait until Redis has confirmed the subscription of what is held. Unavailable."""
        if self._link is None:
            raise Unavailable(NO_LINK)
        future = self._asked[wire] if wire in self._asked else self._ask(wire)
        if future is None:
            return
        try:
            async with asyncio.timeout(CONFIRM_S):
                refusal = await asyncio.shield(future)
        except TimeoutError:
            raise Unavailable(f"Redis has not confirmed a subscription within {CONFIRM_S} s") from None
        if refusal:
            raise Unavailable(refusal)

    async def catch_up(self) -> None:
        """Subscribe to whatever is held and is not subscribed. Unavailable."""
        async with self._catching_up:
            missing = [wire for wire in self.held if wire not in self._asked]
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                await self._confirm_all(
                    [self._ask(wire) for wire in batch if wire in self.held and wire not in self._asked]
                )
            self.on_ready(missing)

    async def _confirm_all(self, futures: Iterable[asyncio.Future[str]]) -> None:
        if not (waiting := set(futures)):
            return
        done, late = await asyncio.wait(waiting, timeout=CONFIRM_S)
        if late:
            raise Unavailable(f"Redis has not confirmed {len(late)} subscriptions within {CONFIRM_S} s")
        for refusal in (future.result() for future in done):
            if refusal and refusal != MOVED:
                raise Unavailable(refusal)

    # -- the connection

    @property
    def is_connected(self) -> bool:
        return self._link is not None

    def is_confirmed(self, wire: bytes) -> bool:
        """Whether Redis has said that we are subscribed."""
        return self._asked.get(wire, self) is None

    def drop(self, reason: str) -> None:
        """Give up the connection; its keeper makes another."""
        if self._link is not None:
            self._link.abort(reason)

    async def ready(self, link: Link) -> None:
        self._link = link
        link.lost.add_done_callback(lambda lost: self._forget(link, lost.result()))
        await self.catch_up()

    def gone(self) -> None:
        if self._link is not None:
            self._forget(self._link, "the connection to Redis is lost")

    def failed(self) -> None:
        self.on_failed()

    def _forget(self, link: Link, reason: str) -> None:
        """Nothing is subscribed by a connection that is lost, and nobody waits for it."""
        if self._link is not link:
            return
        self._link = None
        self._asked.clear()
        orders, self._orders = self._orders, deque()
        for _, future in orders:
            _settle(future, f"Redis is gone: {reason}")
        self.on_gone()

    # -- orders and replies

    def _ask(self, wire: bytes) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self._link is None:
            future.set_result(NO_LINK)
        else:
            self._asked[wire] = future
            self._order(self._link, self._words.subscribe, wire, future)
        return future

    def _order(self, link: Link, verb: bytes, wire: bytes, future: asyncio.Future[str] | None) -> None:
        self._orders.append((wire, future))
        link.send(b"%b%d\r\n%b\r\n" % (verb, len(wire), wire))

    def take(self, reply: Any) -> None:
        if type(reply) is not list:
            self._refused(reply)
        elif reply[0] == self._message:
            _, wire, payload = reply
            self.heard += 1
            if payload.startswith(self._tag):
                if len(payload) == TAG_BYTES:
                    self.on_echo(wire)
            elif (name := self.held.get(wire)) is not None:
                self._hand(name, payload[TAG_BYTES:])
        else:
            self._answered(reply[0], reply[1])

    def _answered(self, kind: bytes, wire: bytes) -> None:
        asked, future = self._orders[0] if self._orders else (b"", None)
        if kind == self._words.subscribed and asked == wire and future is not None:
            self._orders.popleft()
            if self._asked.get(wire) is future:
                self._asked[wire] = None
            _settle(future, "")
        elif kind == self._words.unsubscribed and asked == wire and future is None:
            self._orders.popleft()
        elif kind == self._words.unsubscribed:
            # Redis does this by itself when the slot has gone elsewhere.
            self._asked.pop(wire, None)
            self.on_moved()
        else:
            self.drop(f"Redis answers what was not asked: {kind!r}")

    def _refused(self, reply: Any) -> None:
        if not self._orders:
            self.drop(f"Redis says: {reply}")
            return
        wire, future = self._orders.popleft()
        if future is not None and self._asked.get(wire) is future:
            del self._asked[wire]
        if str(reply).startswith(MOVES):
            # It is looked for where it is now; this connection is good for all the others.
            _settle(future, MOVED)
            self.on_moved()
        else:
            _settle(future, f"Redis refuses a subscription: {reply}")


def _settle(future: asyncio.Future[str] | None, refusal: str) -> None:
    if future is not None and not future.done():
        future.set_result(refusal)


def _nothing() -> None:
    """Who is told before the shard has said who."""


def _ignored(_: object) -> None:
    """Likewise."""
