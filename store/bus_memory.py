"""The bus of a gateway that is alone: what it offers comes back to it, a turn of the event loop later."""

from store.bus import BusState, OnGap, Receiver
from store.delivery import Delivery


class MemoryBus:
    """Nothing but the delivery of one's own: there is nobody else."""

    def __init__(self) -> None:
        self._delivery = Delivery()
        self._channels: set[str] = set()
        self._published = 0
        self._dropped = 0

    async def start(self, receiver: Receiver, on_gap: OnGap) -> None:
        self._delivery.start(receiver, on_gap)

    async def close(self) -> None:
        self._channels.clear()
        self._delivery.close()

    async def subscribe(self, channel: str) -> None:
        self._channels.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)

    def offer(self, channel: str, payload: bytes) -> None:
        if channel not in self._channels:
            self._published += 1
            return  # nobody listens: as with every bus, it is gone
        if self._delivery.is_open and self._delivery.offer(channel, payload):
            self._published += 1
        else:
            self._dropped += 1

    @property
    def state(self) -> BusState:
        return "up"

    @property
    def published(self) -> int:
        return self._published

    @property
    def received(self) -> int:
        return self._delivery.received

    @property
    def dropped(self) -> int:
        return self._dropped

    @property
    def gaps(self) -> int:
        return self._delivery.gaps

    @property
    def failures(self) -> int:
        """How often the receiver raised: bugs."""
        return self._delivery.failures
