"""The handler of a connection that is over: takes what was read before the end, and does nothing."""

from math import inf
from typing import Final

from gateway.edge.handler import Handler
from gateway.fanout.outlet import Outlet


class _Gone:
    """Holds nothing, so one is enough for all."""

    def on_open(self, outlet: Outlet) -> None:
        """Never called; the others may be, by frames that were read before the end."""

    def on_text(self, data: bytes, now: float) -> None:
        """Too late."""

    on_binary = on_text

    def on_rtt(self, ms: float) -> None:
        """Too late."""

    def on_drained(self) -> None:
        """Too late."""

    def on_closed(self, code: int) -> None:
        """Has been called, of the real one."""

    def check(self, now: float) -> float:
        return inf


GONE: Final[Handler] = _Gone()
