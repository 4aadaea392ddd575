"""The rules of every call: bounded in time and number, counted, finished whatever becomes of its caller."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

from store.errors import Unavailable
from store.log_postgres.connection import Connection, connect
from store.log_postgres.faults import REPEATABLE, is_of_connection, translated
from store.log_postgres.gathering import Gathering
from store.log_postgres.options import PostgresOptions
from store.log_postgres.pool import Pool

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")

# The server ends a statement at its limit; this much later its answer should be here, or it is out of reach.
MARGIN_S: Final = 1.0
# Reads being gathered, a node has some hundred calls under way: who finds this many had better come back.
WAITING_CALLS: Final = 2_000
WAITING_BYTES: Final = 64 * 1024 * 1024
# Each repetition needs somebody else who was faster in between.
REPETITIONS: Final = 5

Job = Callable[[Connection], Awaitable[T]]


class Database:
    """Runs jobs, each on a connection of its own while it lasts.

    A job whose caller was cancelled while it waited for a connection is not done; one that has begun is
    finished in a task of ours, so that no connection is left in the middle of an answer. At the time limit
    its connection is thrown away. One place is kept free for what comes `first`: messages.
    """

    def __init__(self, url: str, options: PostgresOptions) -> None:
        self._pool = Pool(partial(connect, url, options))
        self._limit_s = options.statement_timeout_s + MARGIN_S
        self._places = asyncio.Semaphore(options.pool_size)
        self._others = asyncio.Semaphore(max(1, options.pool_size - 1))
        self._calls: set[asyncio.Task[Any]] = set()
        self._bytes = 0
        self._gatherings: list[Gathering[Any, Any]] = []
        self._is_open = False
        self.queries: Counter[str] = Counter()

    def open(self) -> None:
        """Take jobs from now on."""
        self._is_open = True

    async def close(self) -> None:
        """Take nothing more, finish what is under way, disconnect. Idempotent."""
        self._is_open = False
        for gathering in self._gatherings:
            await gathering.close()
        while self._calls:
            await asyncio.wait(self._calls)
        await self._pool.close()

    def gathered(
        self,
        kind: str,
        fetch: Callable[[Connection, Sequence[K]], Awaitable[Sequence[V]]],
        rows: Callable[[K], int] = lambda _: 1,
    ) -> Callable[[K], Awaitable[V]]:
        """Make a read of which many go in one statement, `fetch`; `rows`: how many one may bring."""

        async def fetch_group(questions: Sequence[K]) -> Sequence[V]:
            return await self._run(kind, lambda db: fetch(db, questions), is_read=True)

        gathering = Gathering(fetch_group, limit_s=self._limit_s, rows=rows)
        self._gatherings.append(gathering)

        async def ask(question: K) -> V:
            self._check_open()
            return await gathering.ask(question)

        return ask

    async def run(
        self, kind: str, job: Job[T], *, size: int = 0, is_first: bool = False, is_read: bool = False
    ) -> T:
        """Have a job done; `size`: the bytes it holds. A read is made again when its connection was lost.

        Unavailable: closed, too much is waiting, out of time, or Postgres failed. Invalid: a value's fault.
        """
        self._check_open()
        return await self._run(kind, job, size=size, is_first=is_first, is_read=is_read)

    def _check_open(self) -> None:
        if not self._is_open:
            raise Unavailable("the log is closed")

    async def _run(
        self, kind: str, job: Job[T], *, size: int = 0, is_first: bool = False, is_read: bool = False
    ) -> T:
        if len(self._calls) >= WAITING_CALLS or (self._calls and self._bytes + size > WAITING_BYTES):
            raise Unavailable(f"{len(self._calls)} calls with {self._bytes} bytes wait for Postgres already")
        has_begun = asyncio.Event()
        task = asyncio.create_task(
            self._limited(kind, job, has_begun, is_first=is_first, is_read=is_read), name=f"log-{kind}"
        )
        self._calls.add(task)
        self._bytes += size
        task.add_done_callback(partial(self._forget, size))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not has_begun.is_set():
                task.cancel()
            raise

    def _forget(self, size: int, task: "asyncio.Task[Any]") -> None:
        self._calls.discard(task)
        self._bytes -= size
        if not task.cancelled():
            task.exception()  # taken note of, also where whoever asked has gone

    async def _limited(
        self, kind: str, job: Job[T], has_begun: asyncio.Event, *, is_first: bool, is_read: bool
    ) -> T:
        try:
            async with asyncio.timeout(self._limit_s), self._place(is_first):
                has_begun.set()
                return await self._repeated(kind, job, is_read=is_read)
        except TimeoutError as error:
            raise Unavailable(
                f"Postgres did not answer within {self._limit_s:g} s ({kind}): "
                "it is overloaded, stuck or out of reach"
            ) from error

    @asynccontextmanager
    async def _place(self, is_first: bool) -> AsyncIterator[None]:
        if is_first:
            async with self._places:
                yield
        else:
            async with self._others, self._places:
                yield

    async def _repeated(self, kind: str, job: Job[T], *, is_read: bool) -> T:
        """Do a job, again if it failed without an effect and may succeed the next time."""
        repetitions, reconnections = REPETITIONS, 1 if is_read else 0
        with translated():
            while True:
                try:
                    return await self._once(kind, job)
                except REPEATABLE:
                    repetitions -= 1
                    if repetitions < 0:
                        raise
                except Exception as error:
                    reconnections -= 1
                    if reconnections < 0 or not is_of_connection(error):
                        raise

    async def _once(self, kind: str, job: Job[T]) -> T:
        async with self._pool.connection() as connection:
            self.queries[kind] += 1
            return await job(connection)
