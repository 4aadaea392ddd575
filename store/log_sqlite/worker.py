"""Threads that own connections and do one job after the other: the event loop never waits for a disk."""

import asyncio
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from store.errors import Unavailable
from store.log_sqlite.connection import translated

T = TypeVar("T")

# At 100 µs a job this is a second of work: who would wait longer had better be told to come back.
WAITING_JOBS: Final = 10_000
# What the waiting jobs carry. The committer alone has one group of a few MiB here at a time.
WAITING_BYTES: Final = 64 * 1024 * 1024
# A thread that has done its I/O asks for the interpreter lock, and asks for it to be given up only after
# this time without a change of owner. A busy loop lets go of it for an instant in every turn; with turns
# shorter than Python's 5 ms the asking thread is woken too late each time and starves: a commit was
# measured to take 10 s, and takes 4 ms with this.
SWITCH_S: Final = 0.001

Job = Callable[[sqlite3.Connection], T]


def _end(db: sqlite3.Connection) -> None:
    """No job: the last order of a thread."""


class _Order(Generic[T]):
    """A job, and who waits for it."""

    __slots__ = ("error", "future", "job", "result", "size")

    def __init__(self, job: Job[T], future: "asyncio.Future[T]", size: int) -> None:
        self.job = job
        self.future = future
        self.size = size
        self.result: T | None = None
        self.error: BaseException | None = None


class Worker:
    """Threads on one queue, each with a connection of its own, which `connect` opens with its first job.

    A connection that SQLite has failed on is replaced: whatever state an I/O error left behind goes with it.
    A job whose caller was cancelled before it began is not done; one that has begun is finished, and its
    result dropped.
    """

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], threads: int = 1) -> None:
        self._name = name
        self._connect = connect
        self._count = threads
        self._threads: list[threading.Thread] = []
        self._orders: SimpleQueue[_Order[Any]] = SimpleQueue()
        self._waiting = 0
        self._waiting_bytes = 0
        self._finished: deque[_Order[Any]] = deque()
        self._lock = threading.Lock()
        self._is_delivery_due = False

    def start(self) -> None:
        """Start the threads."""
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
        loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._work, args=(loop,), name=f"{self._name}-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Finish what was asked for, then end the threads. Idempotent."""
        threads, self._threads = self._threads, []
        endings = [self._order(_end, 0) for _ in threads]
        if endings:
            await asyncio.wait(endings)
        for thread in threads:
            thread.join()

    async def run(self, job: Job[T], size: int = 0) -> T:
        """Have a job done. `size`: the bytes it holds on to while it waits.

        Unavailable: not started or closed, too much is waiting already, or SQLite failed.
        """
        if not self._threads:
            raise Unavailable("the log is closed")
        if self._waiting >= WAITING_JOBS or (self._waiting and self._waiting_bytes + size > WAITING_BYTES):
            raise Unavailable(
                f"{self._waiting} calls with {self._waiting_bytes} bytes wait for SQLite already"
            )
        return await self._order(job, size)

    # -- in the loop

    def _order(self, job: Job[T], size: int) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting += 1
        self._waiting_bytes += size
        self._orders.put(_Order(job, future, size))
        return future

    def _deliver(self) -> None:
        # First this: what is finished while we empty the queue asks for a turn of its own.
        with self._lock:
            self._is_delivery_due = False
        while self._finished:
            order = self._finished.popleft()
            self._waiting -= 1
            self._waiting_bytes -= order.size
            if order.future.done():
                continue
            if order.error is None:
                order.future.set_result(order.result)
            else:
                order.future.set_exception(order.error)

    # -- in the threads

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        db: sqlite3.Connection | None = None
        while (order := self._orders.get()).job is not _end:
            if not order.future.cancelled():
                db = self._do(order, db)
            self._finish(order, loop)
        if db is not None:
            db.close()
        self._finish(order, loop)

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

    def _finish(self, order: _Order[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Hand results over: one wake-up of the loop for as many as there are by then."""
        self._finished.append(order)
        with self._lock:
            if self._is_delivery_due:
                return
            self._is_delivery_due = True
        try:
            loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            return  # the loop is closed, and everybody who waited has gone with it
