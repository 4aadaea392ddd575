"""The way to one Redis server: what many callers ask at the same time leaves in one pipeline.

While a pipeline is under way the next one gathers; no timer. A caller that is cancelled gives up its replies,
not the connection: the conversation goes on without it, so that no reply can reach another caller.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeAlias

from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store.errors import Unavailable
from store.redis_client import TIMEOUT_S
from store.redis_wire.scripts import Call, Command

# One pipeline; a caller's own commands are never parted. Beyond this replies come back in batches, too.
PIPELINE_BYTES: Final = 256 * 1024
# What waits for its turn. Above it callers are refused with Unavailable: Redis is a second of work behind.
WAITING_BYTES: Final = 16 * 1024 * 1024
# What has let a pipeline wait until its time was over is left alone for this long: whoever comes is refused
# at once, instead of standing in line for a time-out of its own.
LEFT_ALONE_S: Final = 0.5

# What a replica says to a write; the client takes the "READONLY" off that stands before it.
_READ_ONLY: Final = "You can't write against a read only replica"


class Conversation(Protocol):
    """A connection of the redis package: it is closed by itself whenever a reply stays unread."""

    async def send_packed_command(self, command: list[bytes]) -> None: ...

    async def read_response(self, *, timeout: float) -> Any: ...

    async def disconnect(self) -> None: ...


Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Conversation]]


class Lane:
    """Talks to one server, on one connection at a time, which `connect` lends."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._waiting: deque[_Parcel] = deque()
        self._waiting_bytes = 0
        self._fault: Exception | None = None
        self._left_alone_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self.trips = 0  # pipelines that were sent

    def send(self, commands: "Sequence[Command | Call]") -> "asyncio.Future[list[Any] | Exception]":
        """Put commands on their way; their replies, errors among them, or why there are none."""
        loop = asyncio.get_running_loop()
        parcel = _Parcel(loop.create_future(), [each.packed() for each in commands])
        if self._fault is not None and loop.time() < self._left_alone_until:
            parcel.settle(self._fault)
        elif self._waiting_bytes > WAITING_BYTES:
            parcel.settle(Unavailable("Redis is too slow: too much is waiting for it"))
        else:
            self._waiting.append(parcel)
            self._waiting_bytes += parcel.size
            if self._task is None:
                self._task = loop.create_task(self._run())
        return parcel.outcome

    async def close(self) -> None:
        """End the conversation. Whoever still waits is told that there is nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._refuse(self._next(0), Unavailable("the connection to Redis was closed"))

    async def _run(self) -> None:
        try:
            # What else is asked in this turn of the loop goes along.
            await asyncio.sleep(0)
            while self._waiting:
                parcels = self._next(PIPELINE_BYTES)
                try:
                    await self._converse(parcels)
                    self._fault = None
                except (TimeoutError, RedisError, OSError) as error:
                    self._failed(parcels, error)
                except BaseException:
                    self._refuse(parcels, Unavailable("the connection to Redis was closed"))
                    raise
        finally:
            self._task = None

    def _next(self, limit: int) -> "list[_Parcel]":
        """Take what fits into one pipeline; all of it for a limit of 0."""
        parcels: list[_Parcel] = []
        size = 0
        while self._waiting and not (parcels and 0 < limit < size + self._waiting[0].size):
            parcel = self._waiting.popleft()
            size += parcel.size
            parcels.append(parcel)
        self._waiting_bytes -= size
        return parcels

    async def _converse(self, parcels: "list[_Parcel]") -> None:
        async with self._connect() as connection:
            async with asyncio.timeout(TIMEOUT_S):
                self.trips += 1
                await connection.send_packed_command([b"".join(parcel.packed) for parcel in parcels])
                for parcel in parcels:
                    parcel.settle([await _reply(connection) for _ in parcel.packed])
            if any(parcel.is_misplaced for parcel in parcels):
                # It was made a replica: whoever has its name now is found by connecting anew.
                await connection.disconnect()

    def _failed(self, parcels: "list[_Parcel]", error: Exception) -> None:
        if isinstance(error, TimeoutError | RedisTimeoutError):
            # Those behind it have waited as well, and would wait for the same.
            parcels += self._next(0)
            self._fault = error
            self._left_alone_until = asyncio.get_running_loop().time() + LEFT_ALONE_S
        self._refuse(parcels, error)

    def _refuse(self, parcels: "list[_Parcel]", error: Exception) -> None:
        for parcel in parcels:
            parcel.settle(error)


class _Parcel:
    """What one caller sends, and where its replies go."""

    __slots__ = ("is_misplaced", "outcome", "packed", "size")

    def __init__(self, outcome: "asyncio.Future[list[Any] | Exception]", packed: list[bytes]) -> None:
        self.outcome = outcome
        self.packed = packed
        self.size = sum(map(len, packed))
        self.is_misplaced = False

    def settle(self, outcome: "list[Any] | Exception") -> None:
        if isinstance(outcome, list):
            # From within a script Redis 6.2 tells it behind words of its own.
            errors = [str(reply) for reply in outcome if isinstance(reply, ResponseError)]
            self.is_misplaced = any(_READ_ONLY in error for error in errors)
        if not self.outcome.done():
            self.outcome.set_result(outcome)


async def _reply(connection: Conversation) -> Any:
    try:
        # The time of the whole pipeline is limited, and a limit for each reply costs as much as the reply.
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error
