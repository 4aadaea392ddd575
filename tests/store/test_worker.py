"""The threads under the SQLite log: order, bounds, cancellation, and what follows a failure."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from store.errors import NotFound, Unavailable
from store.log_sqlite import worker as worker_module
from store.log_sqlite.worker import Worker
from tests.waiting import turns, until


def memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    made = Worker("test", memory)
    made.start()
    yield made
    await made.close()


def _answer(number: int) -> Callable[[sqlite3.Connection], int]:
    return lambda db: number


class Gate:
    """A job that holds its thread until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._opened = threading.Event()

    def __call__(self, db: sqlite3.Connection) -> None:
        self.entered.set()
        assert self._opened.wait(10)

    def open(self) -> None:
        self._opened.set()


async def held(worker: Worker) -> tuple[Gate, "asyncio.Task[None]"]:
    """Have the thread of a worker held."""
    gate = Gate()
    task = asyncio.create_task(worker.run(gate))
    await until(gate.entered.is_set)
    return gate, task


async def test_jobs_are_done_in_the_order_asked_for(worker: Worker) -> None:
    done: list[int] = []

    def job(number: int) -> Callable[[sqlite3.Connection], int]:
        def append(db: sqlite3.Connection) -> int:
            done.append(number)
            return number

        return append

    assert await asyncio.gather(*(worker.run(job(number)) for number in range(100))) == list(range(100))
    assert done == list(range(100))


async def test_all_jobs_of_a_thread_share_its_connection_and_no_thread_is_made_for_a_call(
    worker: Worker,
) -> None:
    used = await asyncio.gather(*(worker.run(lambda db: (id(db), threading.get_ident())) for _ in range(50)))
    assert len(set(used)) == 1
    assert used[0][1] != threading.get_ident()


async def test_many_results_wake_the_loop_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, task = await held(worker)
    loop = asyncio.get_running_loop()
    wake_ups = 0
    call = loop.call_soon_threadsafe
    finished = threading.Event()

    def counting(callback: Callable[..., object], *arguments: object) -> asyncio.Handle:
        nonlocal wake_ups
        wake_ups += 1
        return call(callback, *arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    others = [asyncio.create_task(worker.run(lambda db: None)) for _ in range(30)]
    last = asyncio.create_task(worker.run(lambda db: finished.set()))
    await turns(2)
    gate.open()
    # The loop stands still here: whatever is finished meanwhile has to be fetched in one go.
    assert finished.wait(5)
    await asyncio.gather(task, *others, last)
    assert wake_ups <= 3


async def test_a_closed_or_never_started_worker_is_unavailable() -> None:
    worker = Worker("test", memory)
    with pytest.raises(Unavailable):
        await worker.run(lambda db: None)
    worker.start()
    await worker.close()
    await worker.close()
    with pytest.raises(Unavailable):
        await worker.run(lambda db: None)


async def test_closing_finishes_what_was_asked_for() -> None:
    worker = Worker("test", memory, threads=2)
    worker.start()
    before = threading.active_count()
    jobs = [asyncio.create_task(worker.run(_answer(n))) for n in range(50)]
    await turns(1)
    await worker.close()
    assert await asyncio.gather(*jobs) == list(range(50))
    assert threading.active_count() == before - 2


async def test_a_close_that_is_cancelled_ends_the_threads_all_the_same(worker: Worker) -> None:
    gate, task = await held(worker)
    (thread,) = worker._threads
    closing = asyncio.create_task(worker.close())
    await turns(1)
    closing.cancel()
    gate.open()
    await asyncio.gather(task, closing, return_exceptions=True)
    await until(lambda: not thread.is_alive())


async def test_above_the_bound_of_jobs_the_new_one_is_refused(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "WAITING_JOBS", 3)
    gate, task = await held(worker)
    waiting = [asyncio.create_task(worker.run(lambda db: 1)) for _ in range(2)]
    await turns(1)
    with pytest.raises(Unavailable, match="3 calls"):
        await worker.run(lambda db: 1)
    gate.open()
    assert await asyncio.gather(*waiting) == [1, 1]
    await task
    assert await worker.run(lambda db: 1) == 1


async def test_above_the_bound_of_bytes_the_new_one_is_refused(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "WAITING_BYTES", 100)
    # What is larger than the bound is done when nothing else waits: a bound must not make it impossible.
    assert await worker.run(lambda db: 1, size=500) == 1
    gate, task = await held(worker)
    waiting = asyncio.create_task(worker.run(lambda db: 1, size=90))
    await turns(1)
    with pytest.raises(Unavailable):
        await worker.run(lambda db: 1, size=11)
    small = asyncio.create_task(worker.run(lambda db: 1, size=10))
    await turns(1)
    gate.open()
    assert (await waiting, await small) == (1, 1)
    await task
    assert await worker.run(lambda db: 1, size=100) == 1


async def test_a_job_cancelled_before_it_began_is_not_done(worker: Worker) -> None:
    gate, task = await held(worker)
    done: list[int] = []
    cancelled = asyncio.create_task(worker.run(lambda db: done.append(1)))
    kept = asyncio.create_task(worker.run(lambda db: done.append(2)))
    await turns(1)
    cancelled.cancel()
    gate.open()
    await asyncio.gather(task, kept)
    assert cancelled.cancelled()
    assert done == [2]


async def test_a_job_cancelled_after_it_began_is_finished_and_its_result_dropped(worker: Worker) -> None:
    gate, task = await held(worker)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    gate.open()
    assert await worker.run(lambda db: "next") == "next"


async def test_the_error_of_a_job_reaches_its_caller_and_nobody_else(worker: Worker) -> None:
    def refuse(db: sqlite3.Connection) -> None:
        raise NotFound("no")

    calls: list[Callable[[sqlite3.Connection], object]] = [_answer(1), refuse, _answer(2)]
    one, refused, two = await asyncio.gather(*(worker.run(call) for call in calls), return_exceptions=True)
    assert (one, two) == (1, 2)
    assert isinstance(refused, NotFound)


async def test_sqlites_own_errors_are_translated_with_their_cause(worker: Worker) -> None:
    with pytest.raises(Unavailable, match="no such table: absent") as failed:
        await worker.run(lambda db: db.execute("SELECT * FROM absent"))
    assert isinstance(failed.value.__cause__, sqlite3.OperationalError)


async def test_a_connection_that_failed_is_replaced() -> None:
    opened: list[sqlite3.Connection] = []

    def connect() -> sqlite3.Connection:
        opened.append(memory())
        return opened[-1]

    worker = Worker("test", connect)
    worker.start()
    await worker.run(lambda db: None)
    with pytest.raises(Unavailable):
        await worker.run(lambda db: db.execute("nonsense"))
    assert await worker.run(lambda db: db is opened[1])
    await worker.close()
    for db in opened:
        with pytest.raises(sqlite3.ProgrammingError, match=r"closed|thread"):
            db.execute("SELECT 1")


async def test_a_connection_that_cannot_be_opened_is_tried_again_with_the_next_job() -> None:
    is_away = True

    def connect() -> sqlite3.Connection:
        if is_away:
            raise OSError(28, "No space left on device")
        return memory()

    worker = Worker("test", connect)
    worker.start()
    with pytest.raises(Unavailable, match="No space left"):
        await worker.run(lambda db: None)
    is_away = False
    assert await worker.run(lambda db: 1) == 1
    await worker.close()


def test_results_for_a_loop_that_is_gone_are_dropped() -> None:
    worker = Worker("test", memory)
    gate = Gate()
    tasks: list[asyncio.Task[None]] = []

    async def leave() -> None:
        worker.start()
        tasks.append(asyncio.get_running_loop().create_task(worker.run(gate)))
        await until(gate.entered.is_set)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    tasks[0].cancel()
    loop.run_until_complete(turns(2))
    loop.close()
    gate.open()
    (thread,) = worker._threads
    worker._orders.put(worker_module._Order(worker_module._end, asyncio.Future(loop=loop), 0))
    thread.join(5)
    assert not thread.is_alive()
