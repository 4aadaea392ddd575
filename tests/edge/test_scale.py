"""Two thousand connections: what there is one of stays one."""

import asyncio
import gc

from tests.edge.peer import TEXT, client_frame, request
from tests.edge.serving import Start
from tests.waiting import until

COUNT = 2000


async def test_no_connection_has_a_task_or_a_timer_of_its_own(serve: Start) -> None:
    served = await serve(connections_per_address=COUNT, accepts_per_s=100_000)
    await served.connect()
    loop = asyncio.get_running_loop()
    timers: list[object] = []
    originals = {name: getattr(loop, name) for name in ("call_later", "call_at", "create_task")}
    tasks = len(asyncio.all_tasks())
    writers = []
    for name, original in originals.items():

        def counted(*args: object, name: str = name, original: object = original, **kwargs: object) -> object:
            timers.append((name, args))
            return original(*args, **kwargs)  # type: ignore[operator]

        setattr(loop, name, counted)
    try:
        # Plain connections: helpers such as asyncio.open_connection make tasks of their own.
        for at in range(0, COUNT - 1, 100):
            batch = [
                await loop.create_connection(Quiet, "127.0.0.1", served.port)
                for _ in range(min(100, COUNT - 1 - at))
            ]
            for transport, _ in batch:
                transport.write(request() + client_frame(TEXT, b"hello"))
            writers += batch
            expected = at + len(batch) + 1
            await until(lambda expected=expected: len(served.edge.sockets) == expected)
        await until(lambda: sum(len(handler.texts) for handler in served.handlers) == COUNT - 1)
    finally:
        for name in originals:
            delattr(loop, name)
    # asyncio's own loop accepts each connection in a short task; that is not ours, and not so on uvloop. What
    # remains is what polling takes in this test, and the wheel.
    own = [entry for entry in timers if "_accept_connection2" not in repr(entry)]
    assert len(own) < COUNT / 4, own[:5]
    assert len(getattr(loop, "_scheduled", [])) < 10
    assert len(asyncio.all_tasks()) <= tasks
    assert served.edge.counters.connections == COUNT
    for transport, _ in writers:
        transport.abort()
    await until(lambda: served.edge.counters.connections == 1)


async def test_nothing_of_the_handshake_outlives_it(serve: Start) -> None:
    served = await serve()
    await served.connect()
    # The wheel lets go of the handshake's deadline.
    served.pass_time(6.0)
    gc.collect()
    assert not [kind for kind in _living() if kind in ("EdgeHttpProtocol", "FlowControl", "_Patience")]


async def test_connections_that_are_over_leave_nothing_behind(serve: Start) -> None:
    served = await serve(connections_per_address=COUNT, accepts_per_s=100_000)
    for _ in range(3):
        for _ in range(100):
            await served.connect()
        await served.hang_up()
        await until(lambda: served.edge.counters.connections == 0)
    served.handlers.clear()
    served.forget()
    # The wheel lets go of them when their slots come by.
    for _ in range(5):
        served.pass_time(20.0)
    gc.collect()
    kinds = ("Socket", "Outbox", "EdgeHttpProtocol", "_Patience", "WSProtocol", "WSTransport", "Recorder")
    assert not [kind for kind in _living() if kind in kinds]


def _living() -> list[str]:
    # The Python client has an Outbox too; what its tests leave to the collector is none of ours.
    others = "session_gateway_client"
    kinds = (type(thing) for thing in gc.get_objects())
    return [kind.__name__ for kind in kinds if not str(kind.__module__).startswith(others)]


class Quiet(asyncio.Protocol):
    """A client that does nothing."""
