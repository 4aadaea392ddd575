"""The edge of one node: its sockets, its wheel, its counters. Knows nothing of what travels in the messages."""

import time
from collections.abc import Callable

from gateway.edge.handler import EdgeLimits, HandlerFactory


class Edge:
    """Everything the sockets of one node share. `start` and `stop` run on the loop that serves them."""

    def __init__(
        self, limits: EdgeLimits, factory: HandlerFactory, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self.factory = factory
        self.monotonic = monotonic
        self.draining = False  # set it to refuse upgrades with 503 while the open connections go on

    async def start(self) -> None:
        """Begin to watch deadlines."""

    async def stop(self) -> None:
        """Close every connection with 1001 and return when they are gone, within `closing_s`."""
