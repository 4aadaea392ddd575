"""Where events are delivered: a log, a receiver, a clock that stands, and nodes that take turns."""

from typing import Final

from gateway.runtime import webhook as webhook_module
from gateway.runtime.webhook import Webhook, WebhookSettings
from store.log_sqlite.log import SqliteLog
from tests.auth.makers import StandingClock
from tests.runtime.receiver import Receiver
from tests.store.making import opened

SECRETS: Final = ("an old secret of the tests, long enough",)


class Stage:
    """A log, a receiver, a clock that stands, and nodes that deliver."""

    def __init__(self, log: SqliteLog, receiver: Receiver) -> None:
        self.log = log
        self.receiver = receiver
        self.clock = StandingClock()

    def node(self, name: str = "n1", timeout_s: float = 5.0, url: str | None = None) -> Webhook:
        settings = WebhookSettings(url or self.receiver.url, SECRETS, timeout_s)
        return Webhook(settings, self.log, self.clock, name)

    async def happen(self, count: int) -> list[int]:
        """Let so many things happen; the ids of all events there are."""
        for _ in range(count):
            await opened(self.log)
        return [event.id for event in await self.log.events(after=0, limit=10_000)]

    async def again(self, *nodes: Webhook) -> None:
        """Deliver once more, after the longest pause there is."""
        self.clock.pass_s(webhook_module.PAUSE_MOST_S + 1)
        for node in nodes:
            await node.deliver()
