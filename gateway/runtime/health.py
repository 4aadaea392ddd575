"""Notices that a store is away, and that it is back: the degraded modes of one node.

A mode is entered and left by itself, with one log line each way. Nobody waits for a mode: whoever meets a
store that is away finds out; a mode only says so, and spares the next one the waiting.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, get_args

import msgspec
import structlog

from gateway.clock import Clock
from gateway.protocol.replies import rfc3339
from store.bus import Bus
from store.errors import Unavailable
from store.live import Live
from store.log import Log

Mode = Literal["redis_away", "postgres_away", "bus_deaf"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

PROBE_S: Final = 1.0
# Redis answers within a millisecond, a database within ten. What takes as long as this does not serve.
LIVE_LIMIT_S: Final = 1.0
LOG_LIMIT_S: Final = 2.0
# Two in a row: one slow answer (a fork for a snapshot, a checkpoint, a busy loop of our own) is no outage.
# One good answer is enough to leave, since whoever is refused meanwhile is refused for nothing. So a mode
# begins at most 5 s into an outage, and ends at most 2 s after it.
MISSES: Final = 2

# For the person who reads the log line.
_MEANS: Final[Mapping[Mode, str]] = {
    "redis_away": "messages reach other nodes up to a second late; typing and presence stay on one node; "
    "connections cannot be resumed by token; every read goes to the database",
    "postgres_away": "sends, attaches and changes are refused, to be tried again; connections stay open; "
    "typing and presence go on",
    "bus_deaf": "messages of other nodes arrive seconds late; this node asks for no new connections",
}
_LOST: Final = "the bus has no connection to Redis"
_UNREADY: Final = "the bus is deaf: what other nodes publish does not arrive; it is being connected anew"

_logger = structlog.get_logger("gateway.runtime")


class Readiness(msgspec.Struct, frozen=True):
    """Whether to send traffic here. `reason`: why not; None: do. `degraded`: the modes the node is in."""

    reason: str | None = None
    degraded: tuple[Mode, ...] = ()


class _Watched:
    """One mode: how often in a row the signs of it were seen, and since when it lasts (epoch ms)."""

    __slots__ = ("misses", "since")

    def __init__(self) -> None:
        self.misses = 0
        self.since: int | None = None


class Health:
    """Probes the stores once a second, each at its own pace. `on_change` is called after every change."""

    def __init__(self, log: Log, live: Live, bus: Bus, clock: Clock, on_change: Callable[[], None]) -> None:
        self._log = log
        self._live = live
        self._bus = bus
        self._clock = clock
        self._on_change = on_change
        self._log_answered_at = -math.inf
        self._watched = {mode: _Watched() for mode in MODES}

    def is_in(self, mode: Mode) -> bool:
        """Whether the node is in this mode."""
        return self._watched[mode].since is not None

    @property
    def degraded(self) -> tuple[Mode, ...]:
        """The modes the node is in."""
        return tuple(mode for mode in MODES if self.is_in(mode))

    @property
    def is_alone(self) -> bool:
        """Whether hints of other nodes do not arrive, as far as is known at this moment."""
        return self._bus.state != "up" or self.is_in("redis_away")

    @property
    def unready(self) -> str | None:
        """Why this node should get no new connections; None when it should."""
        return _UNREADY if self.is_in("bus_deaf") else None

    def log_answered(self) -> None:
        """The log has just done something for somebody: whatever becomes of the probe, it is there."""
        self._log_answered_at = self._clock.monotonic()

    async def watch_redis(self) -> None:
        """Probe the live store and look at the bus, until cancelled."""
        gaps = self._bus.gaps

        async def look() -> None:
            nonlocal gaps
            fault = await _fault(self._live.ping, LIVE_LIMIT_S)
            state = self._bus.state
            # A bus whose connection is cut again and again was there between, and each gap is looked into.
            was_there, gaps = self._bus.gaps != gaps, self._bus.gaps
            lost = _LOST if state == "away" and not was_there else None
            self._saw("redis_away", fault or lost)
            # A Redis that hangs makes every bus deaf, and is away: all nodes would ask for no new connections
            # at the same time, for nothing. Deaf is who hears nothing of a Redis that answers.
            self._saw("bus_deaf", _UNREADY if fault is None and state == "deaf" else None)

        await self._again_and_again(look)

    async def watch_postgres(self) -> None:
        """Probe the log, until cancelled."""

        async def look() -> None:
            begun = self._clock.monotonic()
            fault = await _fault(self._log.ping, LOG_LIMIT_S)
            # Under load a probe may wait for longer than it is worth, behind commits that go on all the time.
            self._saw("postgres_away", fault if self._log_answered_at < begun else None)

        await self._again_and_again(look)

    async def _again_and_again(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            begun = self._clock.monotonic()
            await look()
            # A probe that took its whole time is followed by the next at once.
            await asyncio.sleep(max(0.0, begun + PROBE_S - self._clock.monotonic()))

    def _saw(self, mode: Mode, reason: str | None) -> None:
        """Note a sign of a mode, or that there is none."""
        watched = self._watched[mode]
        watched.misses = 0 if reason is None else watched.misses + 1
        if watched.since is None and watched.misses >= MISSES:
            watched.since = self._clock.now_ms()
            since = rfc3339(watched.since)
            _logger.warning("degraded", mode=mode, reason=reason, since=since, means=_MEANS[mode])
        elif watched.since is not None and reason is None:
            lasted_s = (self._clock.now_ms() - watched.since) / 1000
            _logger.info("restored", mode=mode, since=rfc3339(watched.since), lasted_s=round(lasted_s, 1))
            watched.since = None
        else:
            return
        self._on_change()


async def _fault(ping: Callable[[], Awaitable[None]], limit_s: float) -> str | None:
    """What keeps a store from answering; None when it does."""
    try:
        async with asyncio.timeout(limit_s):
            await ping()
    except Unavailable as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {limit_s:g} s"
    return None
