"""The interface of the bus that carries hints between nodes."""

from collections.abc import Callable
from typing import Literal, Protocol

Receiver = Callable[[str, bytes], None]

# Called in the event loop when payloads may have been lost: heads have to be compared with the log.
OnGap = Callable[[], None]

# up: what is offered arrives. away: there is no connection. deaf: there is one, and nothing arrives by it.
BusState = Literal["up", "away", "deaf"]


class Bus(Protocol):
    """At-most-once publish and subscribe. Whoever needs certainty reads the log.

    Order: payloads of one publisher on one channel arrive in the order offered, where they arrive.
    Atomicity: a payload arrives whole or not at all.
    Durability: none; what is offered while a subscriber is away is lost to it.
    Cancellation: a cancelled subscribe or unsubscribe may have taken effect; both are idempotent.
    Errors: `Unavailable` from start, subscribe and unsubscribe. `offer` never raises for the backend's sake:
        it drops and counts.
    """

    async def start(self, receiver: Receiver, on_gap: OnGap) -> None:
        """Connect; `receiver(channel, payload)` is then called in the event loop for every payload.

        Never from within `offer`. It must not block or raise; if it does raise, that is logged, and the next
        payload is delivered all the same. `on_gap()` is called likewise, when all that is subscribed is
        received again after payloads may have been lost. A subscription outlives its connection.
        """

    async def close(self) -> None:
        """Let go of every socket and task. Idempotent. The receiver is not called after it returned."""

    async def subscribe(self, channel: str) -> None:
        """Receive what is offered on a channel from when this returns on, one's own payloads included.

        When it raises, one's own are received all the same, and those of others as soon as the bus can,
        until `unsubscribe`.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Stop receiving. Payloads under way may still arrive."""

    def offer(self, channel: str, payload: bytes) -> None:
        """Publish without waiting, in the event loop. Dropped is what would wait above the bound."""

    @property
    def state(self) -> BusState:
        """Whether what other nodes offer arrives here. One's own arrives in every state."""

    @property
    def published(self) -> int:
        """How many payloads `offer` has taken since start."""

    @property
    def received(self) -> int:
        """How many payloads the receiver got since start, one's own included."""

    @property
    def dropped(self) -> int:
        """How many payloads were dropped since start: above a bound, or because nobody would take them."""

    @property
    def gaps(self) -> int:
        """How often `on_gap` was called since start."""
