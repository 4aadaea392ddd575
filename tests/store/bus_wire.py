"""A link of the bus without a server: the test is its other end."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from store.bus_redis.link import Link


class Wire:
    """A transport of which the test is the other end."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_aborted = False
        self.is_reading = True

    def write(self, data: bytes) -> None:
        assert not self.is_aborted
        self.writes.append(data)

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True


def linked(take: Callable[[Any], None]) -> tuple[Link, Wire]:
    """Make a link, and what it is connected to."""
    made, wire = Link(take), Wire()
    made.connection_made(cast(asyncio.Transport, wire))
    return made, wire
