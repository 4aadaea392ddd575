"""Clients that only heartbeat, in a process of their own: `python -m loadtest.beaters`, driven by `Beaters`.

A process may have some thousand sockets; a node that has more is measured with several of these.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from typing import Final, cast

import click
import jwt
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

SECRET: Final = "a secret of load runs, long enough for HS256"  # noqa: S105 - an example

# How many open at the same time.
_AT_ONCE: Final = 50
_PATIENCE_S: Final = 300.0
_HEARTBEAT: Final = b'{"type":"heartbeat"'


class Beaters:
    """So many clients of one place."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._orders = cast(asyncio.StreamWriter, process.stdin)
        self._answers = cast(asyncio.StreamReader, process.stdout)

    async def answer(self) -> int:
        """Wait for the next number it tells; the first comes when all are connected."""
        line = await asyncio.wait_for(self._answers.readline(), _PATIENCE_S)
        if not line:
            raise RuntimeError("the clients have given up; they said why above")
        return int(line)

    async def answered(self) -> int:
        """How many heartbeats of theirs were answered so far."""
        self._orders.write(b"\n")
        return await self.answer()


@contextlib.asynccontextmanager
async def beaters(url: str, *options: str) -> AsyncIterator[Beaters]:
    """Start them; `options` are those of the command. They connect at once, and heartbeat from then on."""
    command = (sys.executable, "-m", "loadtest.beaters", url, *options)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=dict(os.environ))
    try:
        yield Beaters(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


# -- the process


class Client(WSListener):
    """One connection that says the same again and again."""

    def __init__(self, greeting: list[dict[str, object]]) -> None:
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # its session
        self.answered = 0
        self._greeting = greeting
        self._transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        for frame in self._greeting:
            self._say(frame)
        if not self._greeting:
            self.ready.set_result("")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.TEXT:
            data = frame.get_payload_as_bytes()
            if data.startswith(_HEARTBEAT):
                self.answered += 1
            elif data.startswith(b'{"type":"attached"'):
                self.ready.set_result(json.loads(data)["session"])
            elif data.startswith(b'{"type":"error"'):
                raise RuntimeError(data.decode())

    async def beat(self, interval_s: float) -> None:
        """Heartbeat for ever."""
        await asyncio.sleep(random.uniform(0, interval_s))  # noqa: S311
        while True:
            self._say({"type": "heartbeat", "ts": int(time.time() * 1000)})
            await asyncio.sleep(interval_s)

    def _say(self, frame: dict[str, object]) -> None:
        self._transport.send(WSMsgType.TEXT, json.dumps(frame, separators=(",", ":")).encode())


async def _connected(url: str, greeting: list[dict[str, object]], doors: asyncio.Semaphore) -> Client:
    async with doors:
        client = Client(greeting)
        await ws_connect(lambda: client, url, enable_auto_pong=False)
        await client.ready
        return client


async def _user(url: str, name: str, in_session: int, doors: asyncio.Semaphore) -> list[Client]:
    """As many connections of one user as share a session."""
    now = int(time.time())
    claims = {"sub": name, "aud": "session-gateway", "iat": now, "exp": now + 3600}
    hello: dict[str, object] = {"type": "hello", "token": jwt.encode(claims, SECRET, algorithm="HS256")}
    enter: dict[str, object] = {"type": "open", "id": "open"}
    clients: list[Client] = []
    for _ in range(in_session):
        clients.append(await _connected(url, [hello, enter], doors))
        enter = {"type": "attach", "id": "attach", "session": clients[0].ready.result()}
    return clients


async def _run(url: str, connections: int, in_session: int, heartbeat_s: float, *, echo: bool) -> None:
    doors = asyncio.Semaphore(_AT_ONCE)
    if echo:
        clients = await asyncio.gather(*(_connected(url, [], doors) for _ in range(connections)))
    else:
        names = [f"{os.getpid()}-{number}" for number in range(connections // in_session)]
        users = await asyncio.gather(*(_user(url, name, in_session, doors) for name in names))
        clients = [client for user in users for client in user]
    beats = [asyncio.ensure_future(client.beat(heartbeat_s)) for client in clients]
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    while True:
        click.echo(sum(client.answered for client in clients))
        if not await orders.readline():
            break
    for beat in beats:
        beat.cancel()
    await asyncio.gather(*beats, return_exceptions=True)


@click.command()
@click.argument("url")
@click.option("--connections", default=1000)
@click.option("--in-session", default=1)
@click.option("--heartbeat-s", default=25.0)
@click.option("--echo", is_flag=True, help="Say no hello, and be content with an echo.")
def main(url: str, connections: int, in_session: int, heartbeat_s: float, echo: bool) -> None:
    """Connect, heartbeat, and tell on stdout how many were answered whenever a line comes on stdin."""
    uvloop.run(_run(url, connections, in_session, heartbeat_s, echo=echo))


if __name__ == "__main__":
    main()
