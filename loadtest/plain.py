"""What one would write without a gateway: a Starlette endpoint under uvicorn, for comparison.

`python -m loadtest.plain PORT echo|fanout`
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

_room: dict[WebSocket, None] = {}


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        return


async def _fanout(socket: WebSocket) -> None:
    await socket.accept()
    _room[socket] = None
    try:
        while True:
            text = await socket.receive_text()
            for member in list(_room):
                await member.send_text(text)
    except WebSocketDisconnect:
        del _room[socket]


def main(port: int, mode: str) -> None:
    """Serve."""
    app = Starlette(routes=[WebSocketRoute("/ws", _echo if mode == "echo" else _fanout)])
    config = uvicorn.Config(
        app,
        port=port,
        ws="websockets-sansio",
        loop="uvloop",
        log_level="error",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        backlog=4096,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
