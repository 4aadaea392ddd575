"""Threads that own connections and do one job after the other, so that the event loop never waits for a disk."""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from store.errors import Unavailable
from store.log_sqlite.connection import translated

T = TypeVar("T")

# At 50–100 µs a job this is about a second of work; who would wait longer had better be told to come back.
WAITING_JOBS: Final = 10_000
# Payload of jobs that wait; the committer alone never has more than one group of a few MiB here.
WAITING_BYTES: Final = 64 * 1024 * 1024

Job = Callable[[sqlite3.Connection], T]


def _end(db: sqlite3.Connection) -> None:
    """Not a job: the last order of a thread."""


class _Order(Generic[T]):
    """A job and who waits for it."""

    __slots__ = ("error", "future", "job", "result", "size")

    def __init__(self, job: Job[T], future: "asyncio.Future[T]", size: int) -> None:
        self.job = job
        self.future = future
        self.size = size
        self.result: T | None = None
        self.error: BaseException | None = None


class Worker:
    """One or more threads on one queue, each with a connection of its own that `connect` opens.

    A job that fails leaves its connection to be replaced: whatever state an I/O error left behind goes with it. A job whose caller was cancelled
    before it began is not done; one that has begun is finished, and its result dropped.
    """

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], threads: int = 1) -> None:
        self._name = name
        self._connect = connect
        self._count = threads
        self._threads: list[threading.Thread] = []
        self._orders: SimpleQueue[_Order[Any]] = SimpleQueue()
        self._finished: deque[_Order[Any]] = deque()
        self._is_delivering = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = 0
        self._waiting_bytes = 0

    def start(self) -> None:
        """Start the threads; they open their connections with their first job."""
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._work, name=f"{self._name}-{n}", daemon=True)
            for n in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Finish what was asked for, then end the threads. Idempotent."""
        threads, self._threads = self._threads, []
        if self._loop is None:
            return
        endings = [_Order(_end, self._loop.create_future(), 0) for _ in threads]
        for ending in endings:
            self._waiting += 1
            self._orders.put(ending)
        for ending in endings:
            await ending.future
        for thread in threads:
            thread.join()

    async def run(self, job: Job[T], size: int = 0) -> T:
        """Have a job done; `size`: bytes it holds on to while it waits. Unavailable: closed, too much is waiting, or SQLite failed."""
        if not self._threads or self._loop is None:
            raise Unavailable("the log is closed")
        if self._waiting >= WAITING_JOBS or self._waiting_bytes + size > max(WAITING_BYTES, size):
            raise Unavailable(f"{self._waiting} calls are waiting for SQLite already")
        future: asyncio.Future[T] = self._loop.create_future()
        order = _Order(job, future, size)
        self._waiting += 1
        self._waiting_bytes += size
        self._orders.put(order)
        return await future

    # -- in the loop

    def _deliver(self) -> None:
        # First this, then the emptying: what is finished in between asks for a turn of its own.
        with self._lock:
            self._is_delivering = False
        while self._finished:
            order = self._finished.popleft()
            self._waiting -= 1
            self._waiting_bytes -= order.size
            if order.future.done():
                continue
            if order.error is not None:
                order.future.set_exception(order.error)
            else:
                order.future.set_result(order.result)

    # -- in the threads

    def _work(self) -> None:
        db: sqlite3.Connection | None = None
        while True:
            order = self._orders.get()
            if order.job is _end:
                break
            if not order.future.cancelled():
                db = self._do(order, db)
            self._finish(order)
        if db is not None:
            db.close()
        self._finish(order)

    def _do(self, order: _Order[Any], db: sqlite3.Connection | None) -> sqlite3.Connection | None:
        """Do one job; return the connection for the next."""
        try:
            with translated():
                if db is None:
                    db = self._connect()
                order.result = order.job(db)
        except Unavailable as error:
            order.error = error
            if db is not None:
                db.close()
            return None
        except BaseException as error:
            order.error = error
        return db

    def _finish(self, order: _Order[Any]) -> None:
        self._finished.append(order)
        with self._lock:
            if self._is_delivering:
                return
            self._is_delivering = True
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            return  # the loop is closed, and with it everybody who waited
