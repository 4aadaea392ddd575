"""The servers that are measured, each a process of its own, and what a process has used so far."""

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Literal

import msgspec
import psutil

from loadtest.native import HERE, built
from tests.process import GatewayProcess, free_port

Mode = Literal["echo", "fanout"]

_READY_WITHIN_S: Final = 20.0

# One machine, one address, one user: the limits on each of them are not what is measured.
_ROOMY: Final = {
    "GATEWAY_MAX_FRAMES_PER_S": "100000",
    "GATEWAY_MAX_FRAMES_BURST": "1000000",
    "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "10000",
    "GATEWAY_MAX_CONNECTIONS_PER_USER": "10000",
    "GATEWAY_MAX_ACCEPTS_PER_S": "10000",
    "GATEWAY_HELLO_TIMEOUT_S": "60",
}


class Running(msgspec.Struct, frozen=True):
    """A server that answers."""

    pid: int
    port: int
    gateway: GatewayProcess | None = None  # the whole one, where a session has to be made first

    def cpu_s(self) -> float:
        """CPU time of all its threads. Nanoseconds where Linux tells them, else what psutil knows, 10 ms."""
        tasks = Path(f"/proc/{self.pid}/task")
        with contextlib.suppress(OSError):
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def rss_bytes(self) -> int:
        """Resident memory."""
        return int(psutil.Process(self.pid).memory_info().rss)


Start = Callable[[Mode], AbstractAsyncContextManager[Running]]


@contextlib.asynccontextmanager
async def floor(mode: Mode) -> AsyncIterator[Running]:
    """C, epoll, one send() per delivery."""
    port = free_port()
    async with _process(port, str(built("floor")), str(port), mode) as running:
        yield running


@contextlib.asynccontextmanager
async def edge(mode: Mode) -> AsyncIterator[Running]:
    """The gateway's edge with nothing behind it."""
    port = free_port()
    extra = ["--broadcast"] if mode == "fanout" else []
    async with _process(port, sys.executable, "-m", "loadtest.echo", "--port", str(port), *extra) as running:
        yield running


@contextlib.asynccontextmanager
async def plain(mode: Mode) -> AsyncIterator[Running]:
    """A Starlette endpoint under uvicorn."""
    port = free_port()
    async with _process(port, sys.executable, "-m", "loadtest.plain", str(port), mode) as running:
        yield running


@contextlib.asynccontextmanager
async def picows(mode: Mode) -> AsyncIterator[Running]:
    """The library below the edge, by itself."""
    async with _library("picows", mode) as running:
        yield running


@contextlib.asynccontextmanager
async def websockets(mode: Mode) -> AsyncIterator[Running]:
    """The `websockets` package's own server, with its `broadcast`."""
    async with _library("websockets", mode) as running:
        yield running


@contextlib.asynccontextmanager
async def node(mode: Mode) -> AsyncIterator[Running]:
    """Node and `ws`. Needs `npm ci` in clients/javascript."""
    port = free_port()
    async with _process(port, "node", str(HERE / "native" / "ws.mjs"), str(port), mode) as running:
        yield running


def _library(name: str, mode: Mode) -> AbstractAsyncContextManager[Running]:
    port = free_port()
    return _process(port, sys.executable, "-m", "loadtest.libraries", name, str(port), mode)


@contextlib.asynccontextmanager
async def whole(mode: Mode) -> AsyncIterator[Running]:
    """The whole gateway. It has no echo."""
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        async with GatewayProcess(Path(folder), env=_ROOMY) as gateway:
            yield Running(gateway.pid, gateway.port, gateway)


@contextlib.asynccontextmanager
async def _process(port: int, *command: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    try:
        await asyncio.wait_for(_answers(port, process), _READY_WITHIN_S)
        yield Running(process.pid, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answers(port: int, process: asyncio.subprocess.Process) -> None:
    while process.returncode is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        await asyncio.sleep(0.05)
    raise RuntimeError(f"the server ended with {process.returncode}")
