"""Two thousand connections, each with a session: what they cost the event loop, and the process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import server
from gateway.app import Gateway, open_gateway
from gateway.settings import load
from tests.gateway.rawsocket import RawClient
from tests.process import free_port
from tests.waiting import until

CROWD = 2_000
SECRET = "a secret of the tests, long enough for HS256"


@contextlib.asynccontextmanager
async def serving(data_dir: Path, port: int) -> AsyncIterator[Gateway]:
    """A gateway in this very loop, which is asyncio's own: its timers can be counted."""
    settings = load(
        {
            "GATEWAY_PORT": str(port),
            "GATEWAY_OPS_PORT": "0",
            "GATEWAY_DATA_DIR": str(data_dir),
            "GATEWAY_JWT_SECRET": SECRET,
            "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "10000",
            "GATEWAY_MAX_ACCEPTS_PER_S": "100000",
            "GATEWAY_DRAIN_S": "1",
        }
    )
    gateway = open_gateway(settings)
    ready = asyncio.Event()
    task = asyncio.create_task(server.serve(settings, gateway, lambda _: ready.set()))
    await ready.wait()
    try:
        yield gateway
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def load_of_the_loop() -> tuple[int, int]:
    """Tasks, and timers that are not cancelled."""
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return len(asyncio.all_tasks()), sum(not timer.cancelled() for timer in scheduled)


@pytest.mark.timeout(120)
async def test_two_thousand_connections_have_no_task_and_no_timer_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    async with serving(tmp_path, port) as gateway:
        clients: list[RawClient] = []

        def come(first: int, last: int) -> None:
            for n in range(first, last):
                client = RawClient(port)
                client.hello(gateway.tokens.mint(f"user-{n}"))
                client.say({"type": "open", "id": "o"})
                client.until("live")
                clients.append(client)

        try:
            await asyncio.to_thread(come, 0, 50)
            few = load_of_the_loop()
            await asyncio.to_thread(come, 50, CROWD)
            await until(lambda: len(gateway.node.connections) == CROWD)
            assert len(gateway.node.hub.rooms) == CROWD
            many = load_of_the_loop()
            # A flush or a sweep may be at work in one moment and not in the other: a handful, whatever the
            # crowd.
            assert many[0] - few[0] <= 5, (few, many)
            assert many[1] - few[1] <= 5, (few, many)
        finally:
            for client in clients:
                client.socket.close()
        await until(lambda: not gateway.node.connections, within=20)
        await until(lambda: load_of_the_loop()[0] <= few[0] + 5, within=20)
