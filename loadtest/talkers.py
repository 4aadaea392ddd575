"""Drives `native/talkers.c`: clients of several gateways, each in one session."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, cast

import msgspec

from loadtest.native import built

# What takes longer than its own time and this is stuck; the program itself gives up after 20 s of silence.
_PATIENCE_S: Final = 120.0


class Times(msgspec.Struct, frozen=True, array_like=True):
    """How long something took, in µs."""

    count: int
    p50: int
    p99: int
    most: int

    def __str__(self) -> str:
        return f"p50 {self.p50 / 1000:.2f} ms, p99 {self.p99 / 1000:.2f} ms, most {self.most / 1000:.0f} ms"


class Outcome(msgspec.Struct, frozen=True):
    """What came of an order."""

    us: int
    sent: int
    acked: int
    errors: int
    gaps: int  # messages that were not the next one of their session: lost, twice or out of order
    resumed: int
    fresh: int  # came without a resume token, or with one that was no longer good
    gone: int  # were cut off, or have lost their connection
    refused: int  # upgrades answered by 503
    put_off: int  # resumes that were told to come again
    ack: Times
    same: Times  # from a send to its delivery at a client of the sender's own node
    other: Times  # and of another node
    way: Times  # from a connect, or a loss that is survived, to `live`

    @property
    def seconds(self) -> float:
        return self.us / 1e6

    @property
    def rate(self) -> float:
        """Acked messages a second."""
        return self.acked / self.seconds


class Talkers:
    """All the clients."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._orders = cast(asyncio.StreamWriter, process.stdin)
        self._answers = cast(asyncio.StreamReader, process.stdout)

    def add(self, port: int, session: str, token: str) -> None:
        """One more client; it connects with the next `connect`."""
        self._orders.write(f"client {port} {session} {token}\n".encode())

    async def connect(self, *, parallel: int = 64, ports: Sequence[int] = ()) -> Outcome:
        """Have all that are away come where they were, or to these ports, and catch up."""
        await self._orders.drain()
        return await self._do(f"connect {parallel} {' '.join(map(str, ports))}")

    async def window(self, sends: int, seconds: float) -> Outcome:
        """Have each keep so many sends on their way."""
        return await self._do(f"window {sends} {seconds}", seconds)

    async def rate(self, per_s: float, seconds: float) -> Outcome:
        """Have all of them together send at this rate, at random times."""
        return await self._do(f"rate {per_s} {seconds}", seconds)

    async def cut(self, port: int) -> Outcome:
        """Reset the sockets of all who are connected to this port."""
        return await self._do(f"cut {port}")

    async def survive(
        self, losses: int, ports: Sequence[int], lose: Callable[[], Awaitable[None]]
    ) -> Outcome:
        """Have so many lose their connections, and come back by themselves, to these ports."""
        self._orders.write(f"survive {losses} {' '.join(map(str, ports))}\n".encode())
        await self._orders.drain()
        await lose()
        return await self._outcome("survive", 0.0)

    async def _do(self, order: str, seconds: float = 0.0) -> Outcome:
        self._orders.write(f"{order}\n".encode())
        return await self._outcome(order, seconds)

    async def _outcome(self, order: str, seconds: float) -> Outcome:
        line = await asyncio.wait_for(self._answers.readline(), seconds + _PATIENCE_S)
        if not line:
            raise RuntimeError("the clients have given up; they said why above")
        outcome = msgspec.json.decode(line, type=Outcome)
        if outcome.errors or outcome.gaps:
            raise RuntimeError(f"{order}: {outcome.errors} errors, {outcome.gaps} gaps in what was delivered")
        return outcome


@contextlib.asynccontextmanager
async def talkers(size: int) -> AsyncIterator[Talkers]:
    """Start the program; `size` is that of a message's content in bytes."""
    process = await asyncio.create_subprocess_exec(
        str(built("talkers")), str(size), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Talkers(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
