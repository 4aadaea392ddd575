"""Delivers events to an address of the operator's: in order, at least once, by one node at a time.

Nothing is kept here that must not be lost: what was delivered stands in the log.
"""

import hmac
import random
import ssl
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import structlog

from gateway.clock import Clock
from gateway.exchange import ExchangeFailed, Question, exchange, trusted
from gateway.protocol.codec import json_bytes
from gateway.protocol.replies import rfc3339
from gateway.runtime.events import document
from store.log import Log
from store.types import Event

WebhookState = Literal["off", "standby", "delivering", "failing", "paused"]

# How often it is looked whether there is something to deliver, and whose turn it is.
LOOK_S: Final = 1.0
# Events of one request: some 50 KB.
BATCH: Final = 100
# Full jitter: after n failures in a row the next try is at U(0, min(300 s, 1 s * 2^n)).
PAUSE_S: Final = 1.0
PAUSE_MOST_S: Final = 300.0
# What is behind is counted this often, and up to this number.
COUNT_S: Final = 5.0
COUNT_MOST: Final = 100_000
# The turn is renewed when a third of it is over: what is left is longer than the longest request.
TURN_TIMEOUTS: Final = 1.5
TURN_MARGIN_S: Final = 15.0

GONE: Final = 410

_logger = structlog.get_logger("gateway.runtime")


class WebhookSettings(msgspec.Struct, frozen=True):
    """Where events go. Each of the secrets signs; a receiver needs to know one of them."""

    url: str
    secrets: tuple[str, ...]
    timeout_s: float

    def __repr__(self) -> str:
        """Show neither secret nor address: some addresses are secrets."""
        return f"WebhookSettings(timeout_s={self.timeout_s:g})"


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Sign one request with one secret."""
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1=" + hmac.digest(secret.encode(), signed, "sha256").hex()


class Webhook:
    """One node's part in delivering. `deliver` is called every second, one call after the other."""

    def __init__(self, settings: WebhookSettings | None, log: Log, clock: Clock, node: str) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock
        self._node = node
        self._turn_s = 0.0 if settings is None else TURN_TIMEOUTS * settings.timeout_s + TURN_MARGIN_S
        self._position: int | None = None  # delivered up to here, and it is our turn; None: it is not
        self._done = 0  # delivered by this node, whether or not the log knows already
        self._renew_at = 0.0
        self._size = BATCH
        self._failures = 0
        self._failing_since: int | None = None
        self._again_at = 0.0
        self._count_at = 0.0
        self._oldest_at: int | None = None
        self._is_paused = False
        self._tls: ssl.SSLContext | None = None
        self.behind = 0
        self.delivered = 0
        self.failed = 0

    @property
    def state(self) -> WebhookState:
        """What this node does about it."""
        if self._settings is None:
            return "off"
        if self._position is None:
            return "standby"
        if self._is_paused:
            return "paused"
        return "delivering" if self._failing_since is None else "failing"

    @property
    def lag_s(self) -> float:
        """The age of the oldest event that this node has yet to deliver; 0 where it has none."""
        if self._oldest_at is None:
            return 0.0
        return max(0.0, (self._clock.now_ms() - self._oldest_at) / 1000)

    async def deliver(self) -> None:
        """Deliver what there is, until a request fails. Unavailable: the log is away."""
        if self._settings is not None:
            while await self._deliver_batch(self._settings):
                pass

    async def finish(self) -> None:
        """Tell the log what was delivered last, and let another node go on at once. Unavailable."""
        if self._settings is not None:
            await self._log.hold_delivery(self._node, delivered=self._done, lease_ms=0)
            self._lose_turn()

    async def _deliver_batch(self, settings: WebhookSettings) -> bool:
        """Deliver a batch; whether to go on with the next at once."""
        position = await self._hold()
        if position is None:
            return False
        if self._is_paused or self._clock.monotonic() < self._again_at:
            await self._count(position)
            return False
        # After a failure the same events once more, under the same id, whatever has come behind them.
        events = await self._log.events(after=position, limit=self._size)
        if not events:
            self._caught_up()
            return False
        self._oldest_at = events[0].at
        await self._count(position, at_least=len(events))
        fault = await self._post(settings, events)
        if fault is not None:
            self._fail(fault, events)
            return False
        # From here to the end nothing is awaited: what was delivered is known, whoever cancels us.
        self._succeed(events)
        return True

    async def _hold(self) -> int | None:
        """Make sure that it is this node's turn, and tell the log what was delivered."""
        now = self._clock.monotonic()
        if self._position is not None and self._done <= self._position and now < self._renew_at:
            return self._position
        position = await self._log.hold_delivery(
            self._node, delivered=self._done, lease_ms=round(self._turn_s * 1000)
        )
        if position is None:
            self._lose_turn()
            return None
        if position != self._position:
            self._size = BATCH
        self._position, self._renew_at = position, now + self._turn_s / 3
        return position

    async def _count(self, position: int, at_least: int = 0) -> None:
        now = self._clock.monotonic()
        if now >= self._count_at:
            self._count_at = now + COUNT_S
            self.behind = await self._log.events_behind(position, limit=COUNT_MOST)
        self.behind = max(self.behind, at_least)

    async def _post(self, settings: WebhookSettings, events: Sequence[Event]) -> str | None:
        """Send a batch; what went wrong, None when nothing did."""
        body = json_bytes({"events": [document(event) for event in events]})
        id = f"{events[0].id}-{events[-1].id}"
        timestamp = self._clock.now_ms() // 1000
        signatures = " ".join(signature(secret, id, timestamp, body) for secret in settings.secrets)
        headers = (
            ("Content-Type", "application/json"),
            ("Webhook-Id", id),
            ("Webhook-Timestamp", str(timestamp)),
            ("Webhook-Signature", signatures),
        )
        try:
            if self._tls is None and settings.url.startswith("https:"):
                self._tls = await trusted()
            question = Question("POST", headers, body)
            answer = await exchange(settings.url, question, timeout_s=settings.timeout_s, tls=self._tls)
        except ExchangeFailed as error:
            self._tls = None  # whom the machine trusts may be others by now
            return str(error)
        if answer.status == GONE:
            self._is_paused = True
        return None if 200 <= answer.status < 300 else f"the answer is {answer.status}"

    def _succeed(self, events: Sequence[Event]) -> None:
        self._done = events[-1].id
        self._size = BATCH
        self.delivered += len(events)
        self.behind = max(0, self.behind - len(events))
        self._failures = 0
        if self._failing_since is not None:
            lasted_s = round((self._clock.now_ms() - self._failing_since) / 1000, 1)
            _logger.info("webhook_recovered", since=rfc3339(self._failing_since), lasted_s=lasted_s)
            self._failing_since = None

    def _fail(self, reason: str, events: Sequence[Event]) -> None:
        self._size = len(events)
        self.failed += 1
        self._failures += 1
        most_s = min(PAUSE_MOST_S, PAUSE_S * 2 ** min(self._failures, 20))
        self._again_at = self._clock.monotonic() + random.uniform(0, most_s)  # noqa: S311 - spreads tries
        if self._is_paused:
            _logger.warning(
                "webhook_paused",
                reason=reason,
                first=events[0].id,
                do="nothing is delivered any more: correct GATEWAY_WEBHOOK_URL or its receiver, then restart "
                "the nodes; events are kept for GATEWAY_EVENTS_RETENTION_H",
            )
        elif self._failing_since is None:
            self._failing_since = self._clock.now_ms()
            _logger.warning("webhook_failing", reason=reason, first=events[0].id, events=len(events))

    def _caught_up(self) -> None:
        self._oldest_at = None
        self.behind = 0
        if self._failing_since is not None:
            # What could not be delivered is older than events are kept, and gone.
            self._failing_since = None
            self._failures = 0

    def _lose_turn(self) -> None:
        self._position = None
        self._is_paused = False
        self._failing_since = None
        self._failures = 0
        self._again_at = 0.0
        self._size = BATCH
        self._oldest_at = None
        self.behind = 0
