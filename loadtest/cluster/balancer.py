"""A TCP load balancer for nodes on this machine: least connections, among those whose /readyz says 200.

It passes bytes on and knows nothing of them. A connection stays with the node that took it.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self, cast

HOST: Final = "127.0.0.1"

_CHECK_EVERY_S: Final = 1.0
_CHECK_WITHIN_S: Final = 1.0
_CONNECT_WITHIN_S: Final = 2.0
# When one side has ended: for the other to take what is still on its way.
_LINGER_S: Final = 10.0
# Each is two sockets here. Who comes when there are as many is closed at once, and tries again.
MAX_CONNECTIONS: Final = 8_000
# What waits for a peer that does not read; above it nothing more is read from the other side.
_BUFFER_BYTES: Final = 128 * 1024


class Target:
    """A node that connections can be given to."""

    def __init__(self, name: str, port: int, ops_port: int) -> None:
        self.name = name
        self.port = port
        self.ops_port = ops_port
        self.is_ready = False
        self.has_answered = False
        self.connections = 0


class Balancer:
    """Listens on one port and spreads what comes over the targets."""

    def __init__(
        self, targets: Sequence[Target], *, tell: Callable[[str], None], limit: int = MAX_CONNECTIONS
    ) -> None:
        self.targets = list(targets)
        self.port = 0
        self._tell = tell
        self._limit = limit
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._checks: asyncio.Task[None] | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._sides: set[Side] = set()

    @property
    def connections(self) -> int:
        """How many are open, those included for which a node is still looked for."""
        return sum(target.connections for target in self.targets)

    async def start(self, listening: socket.socket) -> None:
        """Ask all targets how they are, then accept connections on a bound socket."""
        await self.check()
        self._checks = asyncio.create_task(self._keep_checking(), name="readiness checks")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Side(self._accept), sock=listening, backlog=1024)
        self.port = listening.getsockname()[1]

    async def close(self) -> None:
        """Accept no more, end all connections, and wait until no task is left."""
        if self._server is not None:
            self._server.close()
        tasks = [*self._connecting, *([self._checks] if self._checks else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for side in list(self._sides):
            side.end()
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- which node

    async def check(self) -> None:
        """Ask every target whether it is ready, all at once."""
        await asyncio.gather(*(self._check(target) for target in self.targets))

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            await self.check()

    async def _check(self, target: Target) -> None:
        was, answer = target.is_ready, await says_ready(target.ops_port)
        # A node that was too busy to answer once is asked again before it counts as lost.
        target.is_ready = (was and target.has_answered) if answer is None else answer
        target.has_answered = answer is not None
        if was is not target.is_ready:
            self._tell(
                f"{target.name} is {'ready' if target.is_ready else 'not ready: it gets no new clients'}"
            )

    def _by_load(self) -> list[Target]:
        """Order the ready ones, the least loaded first; among equals each is first in turn."""
        self._turn += 1
        start = self._turn % len(self.targets)
        ready = [target for target in self.targets[start:] + self.targets[:start] if target.is_ready]
        return sorted(ready, key=lambda target: target.connections)

    # -- connections

    def _accept(self, client: "Side") -> None:
        if len(self._sides) >= 2 * self._limit:
            client.end()
            return
        self._sides.add(client)
        task = asyncio.create_task(self._connect(client), name="looking for a node")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, client: "Side") -> None:
        """Find a node that takes it; when none does, the client is reset and tries again."""
        loop = asyncio.get_running_loop()
        try:
            for target in self._by_load():
                target.connections += 1
                try:
                    async with asyncio.timeout(_CONNECT_WITHIN_S):
                        _, node = await loop.create_connection(Side, HOST, target.port)
                except (OSError, TimeoutError):
                    # It has died since it was last asked. The next check says when it is back.
                    target.connections -= 1
                    target.is_ready = False
                    continue
                except BaseException:
                    target.connections -= 1
                    raise
                self._join(client, node, target)
                return
        except asyncio.CancelledError:
            client.end()
            raise
        self._sides.discard(client)
        client.end()

    def _join(self, client: "Side", node: "Side", target: Target) -> None:
        self._sides.add(node)

        def gone(side: Side) -> None:
            self._sides.discard(side)
            if side is node:
                target.connections -= 1

        client.join(node, gone)
        node.join(client, gone)


class Side(asyncio.Protocol):
    """One end of a connection through the balancer; what it gets goes to the other one."""

    def __init__(self, accept: Callable[["Side"], None] | None = None) -> None:
        self._accept = accept
        self._gone: Callable[[Side], None] | None = None
        self._other: Side | None = None
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._peer_has_ended = False
        self._is_lost = False

    def join(self, other: "Side", gone: Callable[["Side"], None]) -> None:
        """Pass on to the other from now on; `gone` is called when this side is."""
        self._other = other
        self._gone = gone
        if self._is_lost:
            gone(self)
            other.end()
        elif self._transport is not None and (sink := self._open_other()) is not None:
            for data in self._early:
                sink.write(data)
            self._early.clear()
            self._transport.resume_reading()

    def end(self) -> None:
        """Close at once, whatever is still on its way."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        if self._accept is not None:
            self._accept(self)

    def data_received(self, data: bytes) -> None:
        if (other := self._open_other()) is not None:
            other.write(data)
        elif self._other is None and self._transport is not None:
            # No more is read before there is somebody to pass it to. A pause in connection_made would not do:
            # uvloop begins to read after that all the same.
            self._early.append(data)
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        if (other := self._open_other()) is not None:
            other.pause_reading()

    def resume_writing(self) -> None:
        if (other := self._open_other()) is not None:
            other.resume_reading()

    def eof_received(self) -> bool:
        """Pass the end on; the other direction stays open until it ends too."""
        self._peer_has_ended = True
        other = self._open_other()
        if self._other is None or other is None or self._other._peer_has_ended:
            return False
        other.write_eof()
        if self._accept is None:
            # The node is through with this client, or dead: whoever does not close is not waited for.
            asyncio.get_running_loop().call_later(_LINGER_S, other.abort)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        if self._gone is not None:
            self._gone(self)
        if (other := self._open_other()) is None:
            return
        if error is not None:
            other.abort()
            return
        other.close()
        if other.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_LINGER_S, other.abort)

    def _open_other(self) -> asyncio.Transport | None:
        """Return the other side's transport, unless it is closing: then nothing may be done to it."""
        other = self._other._transport if self._other is not None else None
        return None if other is None or other.is_closing() else other


async def says_ready(ops_port: int) -> bool | None:
    """Ask a node's operations port whether it wants new clients; None when no answer comes in time."""
    try:
        async with asyncio.timeout(_CHECK_WITHIN_S):
            reader, writer = await asyncio.open_connection(HOST, ops_port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except TimeoutError:
        return None
    except OSError:
        return False
