"""WebSocket libraries by themselves, each as it is meant to be used.

This is the measurement that the choice of a library rests on.
`python -m loadtest.libraries NAME PORT echo|fanout`
"""

import sys

import uvloop
import websockets
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server
from websockets.asyncio.server import ServerConnection, broadcast, serve


class _Listener(WSListener):
    """picows, with its own way of sending."""

    room: dict[WSTransport, None] = {}  # noqa: RUF012 - one room for the process
    is_echo = True

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.room[transport] = None

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        del self.room[transport]

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_bytes()
        if self.is_echo:
            transport.send(WSMsgType.TEXT, payload)
        else:
            for member in self.room:
                member.send(WSMsgType.TEXT, payload)


async def _picows(port: int, mode: str) -> None:
    _Listener.is_echo = mode == "echo"
    server = await ws_create_server(lambda request: _Listener(), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


async def _websockets(port: int, mode: str) -> None:
    room: set[ServerConnection] = set()

    async def handle(socket: ServerConnection) -> None:
        room.add(socket)
        try:
            async for message in socket:
                if mode == "echo":
                    await socket.send(message)
                else:
                    broadcast(room, message)
        except websockets.ConnectionClosed:
            return
        finally:
            room.discard(socket)

    options = {"compression": None, "ping_interval": None, "backlog": 4096}
    async with serve(handle, "127.0.0.1", port, **options) as server:  # type: ignore[arg-type]
        await server.serve_forever()


if __name__ == "__main__":
    _serve = {"picows": _picows, "websockets": _websockets}[sys.argv[1]]
    uvloop.run(_serve(int(sys.argv[2]), sys.argv[3]))
