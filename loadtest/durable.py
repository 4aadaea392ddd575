"""Durable sends: how many a second are acked after their commit, against one commit for each message.

Everything runs on this machine: the gateway in a process of its own, the clients in this one. Both sides use
SQLite with `synchronous=FULL` on the same disk.
"""

import asyncio
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import click
import msgspec
import psutil
import uvloop
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from gateway import ids
from store.open import Places, open_stores
from store.types import Draft, NewSession
from tests.process import GatewayProcess

_ROOMY: Final = {
    "GATEWAY_MAX_FRAMES_PER_S": "100000",
    "GATEWAY_MAX_FRAMES_BURST": "1000000",
    "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "10000",
    "GATEWAY_MAX_ACCEPTS_PER_S": "10000",
}

_ACK: Final = b'{"type":"ack","id":"'


class Result(msgspec.Struct, frozen=True):
    """What came of one run."""

    acked: int
    seconds: float
    cpu_us: float  # of the gateway's process, per acked message
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Acked messages a second."""
        return self.acked / self.seconds

    def __str__(self) -> str:
        acks = f"{self.rate:10,.0f} acked/s  p50 {self.p50_ms:.2f} ms  p99 {self.p99_ms:.2f} ms"
        return f"{acks}  {self.cpu_us:.1f} µs CPU of the gateway per message"


class Sender(WSListener):
    """One connection with a session of its own, which keeps `window` sends on their way."""

    def __init__(self, token: str, window: int, size: int) -> None:
        self.session: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.acked = 0
        self.latencies: list[float] = []
        self._token = token
        self._window = window
        self._content = "x" * size
        self._numbers = itertools.count()
        self._sent_at: dict[str, float] = {}
        self._transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._say({"type": "hello", "token": self._token})
        self._say({"type": "open", "id": "open"})

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        data = frame.get_payload_as_bytes()
        if data.startswith(_ACK):
            number = data[len(_ACK) : data.index(b'"', len(_ACK))].decode()
            self.latencies.append(time.monotonic() - self._sent_at.pop(number))
            self.acked += 1
            self._send()
        elif data.startswith(b'{"type":"attached"'):
            self.session.set_result(json.loads(data)["session"])
        elif data.startswith(b'{"type":"error"'):
            raise RuntimeError(data.decode())

    def start(self) -> None:
        """Fill the window."""
        for _ in range(self._window):
            self._send()

    def stop(self) -> None:
        """Go away."""
        self._window = 0
        self._transport.send_close(WSCloseCode.OK)
        self._transport.disconnect()

    def _send(self) -> None:
        if not self._window:
            return
        number = str(next(self._numbers))
        self._sent_at[number] = time.monotonic()
        self._say({"type": "send", "id": number, "session": self.session.result(), "content": self._content})

    def _say(self, frame: dict[str, str]) -> None:
        self._transport.send(WSMsgType.TEXT, json.dumps(frame).encode())


async def gateway_rate(connections: int, window: int, seconds: float, size: int) -> Result:
    """Measure a gateway process under so many senders."""
    with tempfile.TemporaryDirectory(dir=os.getcwd(), prefix=".durable-") as folder:
        async with GatewayProcess(Path(folder), env=_ROOMY) as gateway:
            senders: list[Sender] = []
            for n in range(connections):
                token = gateway.token(f"user-{n}")
                sender = Sender(token, window, size)
                await ws_connect(lambda sender=sender: sender, gateway.ws_url)
                senders.append(sender)
            await asyncio.gather(*(sender.session for sender in senders))
            for sender in senders:
                sender.start()
            await asyncio.sleep(1.0)  # past the start
            process = psutil.Process(gateway.pid)
            for sender in senders:
                sender.latencies.clear()
            acked, cpu, begun = _acked(senders), _cpu_s(process), time.monotonic()
            await asyncio.sleep(seconds)
            acked, cpu, took = _acked(senders) - acked, _cpu_s(process) - cpu, time.monotonic() - begun
            latencies = sorted(itertools.chain.from_iterable(sender.latencies for sender in senders))
            for sender in senders:
                sender.stop()
    p50_ms, p99_ms = (latencies[int(len(latencies) * share)] * 1000 for share in (0.5, 0.99))
    return Result(acked, took, cpu / acked * 1e6, p50_ms, p99_ms)


async def single_rate(seconds: float, size: int) -> float:
    """Commit messages one by one on the same kind of log; messages a second."""
    with tempfile.TemporaryDirectory(dir=os.getcwd(), prefix=".durable-") as folder:
        stores = open_stores(Places(Path(folder)))
        await stores.start(lambda _channel, _payload: None, lambda: None)
        try:
            session = ids.new_id()
            await stores.log.create(NewSession(id=session, tenant="t", owner="u", created_at=0), limit=1)
            count, begun = 0, time.monotonic()
            while time.monotonic() - begun < seconds:
                await stores.log.append([_draft(session, count, size)])
                count += 1
            return count / (time.monotonic() - begun)
        finally:
            await stores.close()


def _draft(session: str, number: int, size: int) -> Draft:
    return Draft(
        session=session,
        tenant="t",
        sender="u",
        id=ids.new_id(),
        client_id=str(number),
        role="user",
        content="x" * size,
        metadata=b"{}",
        created_at=0,
    )


def _acked(senders: list[Sender]) -> int:
    return sum(sender.acked for sender in senders)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@click.command()
@click.option("--connections", default=64, show_default=True, help="Senders, each with a session of its own.")
@click.option("--window", default=16, show_default=True, help="Sends on their way at once, per connection.")
@click.option("--seconds", default=10.0, show_default=True, help="How long to measure.")
@click.option("--size", default=128, show_default=True, help="Bytes of content.")
def durable(connections: int, window: int, seconds: float, size: int) -> None:
    """Durable sends through the whole gateway, against one commit per message."""
    single = uvloop.run(single_rate(min(seconds, 5.0), size))
    click.echo(f"one commit per message    {single:10,.0f} msg/s")
    one = uvloop.run(gateway_rate(1, 1, min(seconds, 5.0), size))
    click.echo(f"gateway, one at a time    {one}")
    many = uvloop.run(gateway_rate(connections, window, seconds, size))
    click.echo(f"gateway, {connections:3} × {window:<3}        {many}")
    click.echo(f"ratio                     {many.rate / single:10.1f} ×")


if __name__ == "__main__":
    durable()
