"""What can happen to the servers, by name: each begins and ends, and what follows from it heals by itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.proxy import FaultProxy
from loadtest.servers.redis import RedisServer
from loadtest.servers.wire import Direction
from tests.evidence.history import History, Record

REDIS_LIMITS: Final = "normal 0 0 0 replica 268435456 67108864 60 pubsub 33554432 8388608 60"


class Fault(Protocol):
    """Something that goes wrong."""

    @property
    def name(self) -> str: ...

    async def begin(self) -> None:
        """Let it happen. For what is over in a moment, that is all."""

    async def end(self) -> None:
        """Undo it, as an operator would. What follows from it heals without us."""


@asynccontextmanager
async def happening(fault: Fault, history: History) -> AsyncIterator[None]:
    """The fault is there while the block runs; the history knows from when to when."""

    def note(op: str) -> None:
        at = time.monotonic()
        history.add(Record(client=fault.name, op="begin" if op == "begin" else "end", at=at, session=""))

    note("begin")
    try:
        await fault.begin()
        yield
    finally:
        await fault.end()
        note("end")


class RedisKilled:
    """SIGKILL; started again empty."""

    name = "redis killed"

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis

    async def begin(self) -> None:
        await asyncio.to_thread(self._redis.kill)

    async def end(self) -> None:
        await asyncio.to_thread(self._redis.again)


class RedisPaused:
    """SIGSTOP: its sockets stay open, and nothing answers."""

    name = "redis paused"

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis

    async def begin(self) -> None:
        self._redis.pause()

    async def end(self) -> None:
        self._redis.resume()


class RedisTold:
    """One command that nobody should have given."""

    def __init__(self, redis: RedisServer, *command: str) -> None:
        self.name = f"redis told {' '.join(command).lower()}"
        self._redis = redis
        self._command = command

    async def begin(self) -> None:
        await asyncio.to_thread(self._redis.run, *self._command)

    async def end(self) -> None:
        """It was over at once."""


class RedisFull:
    """Redis is out of memory: it answers, and takes nothing that is to be kept."""

    name = "redis full"

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis

    async def begin(self) -> None:
        await asyncio.to_thread(self._redis.run, "CONFIG", "SET", "maxmemory", "1mb")

    async def end(self) -> None:
        await asyncio.to_thread(self._redis.run, "CONFIG", "SET", "maxmemory", "0")


class RedisReplica:
    """A failover has made it a replica of a server that is gone: it answers, and is read-only."""

    name = "redis replica"

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis

    async def begin(self) -> None:
        await asyncio.to_thread(self._redis.run, "REPLICAOF", "127.0.0.1", "1")

    async def end(self) -> None:
        await asyncio.to_thread(self._redis.run, "REPLICAOF", "NO", "ONE")


class RedisBuffersTiny:
    """Redis cuts off every subscriber for which some kilobytes wait, as after a burst."""

    name = "redis buffers tiny"

    def __init__(self, redis: RedisServer, *, limit_bytes: int = 4096) -> None:
        self._redis = redis
        self._limit = limit_bytes

    async def begin(self) -> None:
        limit = f"pubsub {self._limit} {self._limit} 1"
        await asyncio.to_thread(self._redis.run, "CONFIG", "SET", "client-output-buffer-limit", limit)

    async def end(self) -> None:
        await asyncio.to_thread(self._redis.run, "CONFIG", "SET", "client-output-buffer-limit", REDIS_LIMITS)


class PostgresStopped:
    """Stopped in order, everybody disconnected; started again."""

    name = "postgres stopped"

    def __init__(self, postgres: PostgresServer) -> None:
        self._postgres = postgres

    async def begin(self) -> None:
        await asyncio.to_thread(self._postgres.stop)

    async def end(self) -> None:
        await asyncio.to_thread(self._postgres.again)


class PostgresKilled(PostgresStopped):
    """SIGKILL to all its processes; it recovers from its log when it is started again."""

    name = "postgres killed"

    async def begin(self) -> None:
        await asyncio.to_thread(self._postgres.kill)


class BackendsTerminated:
    """An operator ends every connection to the database."""

    name = "backends terminated"

    def __init__(self, postgres: PostgresServer, database_url: str) -> None:
        self._postgres = postgres
        self._database = database_url.rpartition("/")[2].partition("?")[0]

    async def begin(self) -> None:
        sql = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._database}'"  # noqa: S608
        await asyncio.to_thread(self._postgres.run, sql)

    async def end(self) -> None:
        """It was over at once."""


class AnswersHeld:
    """Everything reaches the server and takes effect, and not one answer comes back."""

    name = "answers held"

    def __init__(self, proxies: Sequence[FaultProxy]) -> None:
        self._proxies = proxies

    async def begin(self) -> None:
        for proxy in self._proxies:
            proxy.hold(Direction.TO_CLIENT)

    async def end(self) -> None:
        for proxy in self._proxies:
            proxy.heal()


class CutOff:
    """Nothing passes between one node and a server, and no connection is closed."""

    name = "cut off"

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy

    async def begin(self) -> None:
        self._proxy.black_hole()

    async def end(self) -> None:
        self._proxy.heal()
