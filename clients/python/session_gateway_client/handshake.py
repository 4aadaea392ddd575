"""From nothing to a welcomed WebSocket: TCP, TLS, upgrade, hello, welcome; and why it failed."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import websockets.asyncio.client as ws
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from session_gateway_client.clock import within
from session_gateway_client.closing import Ending
from session_gateway_client.frames import decode, encode, refusal
from session_gateway_client.options import Options
from session_gateway_client.values import Frame

CLOSE_TIMEOUT_S: Final = 2.0
# Frames read ahead of us. websockets stops reading above 16 and goes on below 4.
READ_AHEAD_FRAMES: Final = 16


class LinkFailed(Exception):
    """No welcome came; `ending` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending))
        self.ending = ending


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the gateway said at the opening."""

    connection: str
    user: str
    tenant: str
    node: str
    resume: str | None
    resumed: bool
    interval_s: float
    timeout_s: float
    limits: Mapping[str, Any]

    @classmethod
    def of(cls, frame: Frame) -> "Welcome":
        """Read a `welcome` frame."""
        return cls(
            connection=frame["connection"],
            user=frame["user"],
            tenant=frame["tenant"],
            node=frame.get("node") or "",
            resume=frame.get("resume"),
            resumed=bool(frame.get("resumed")),
            interval_s=frame["heartbeat"]["interval_ms"] / 1000,
            timeout_s=frame["heartbeat"]["timeout_ms"] / 1000,
            limits=frame.get("limits") or {},
        )


class _Connect(ws.connect):
    # A redirect could carry the credential of our hello to a place its owner never named.
    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def shake_hands(
    url: str, hello: Frame, headers: Mapping[str, str], options: Options
) -> tuple[ws.ClientConnection, Welcome]:
    """Connect, say hello, wait for the welcome. LinkFailed when there is none in time."""
    limit_s = options.handshake_timeout_s
    opened: list[ws.ClientConnection] = []

    async def shake() -> tuple[ws.ClientConnection, Welcome]:
        socket = await _upgrade(url, headers, options)
        opened.append(socket)
        return socket, await _greet(socket, hello)

    try:
        return await within(options.clock, limit_s, shake())
    except BaseException as failure:
        # Also when we are cancelled at the very moment it had succeeded.
        for socket in opened:
            socket.transport.abort()
            await socket.wait_closed()
        if isinstance(failure, TimeoutError):
            raise LinkFailed(Ending(reason=f"no welcome within {limit_s:g} s")) from None
        raise


async def _upgrade(url: str, headers: Mapping[str, str], options: Options) -> ws.ClientConnection:
    # True: the usual checks of a wss:// address.
    tls = (options.ssl or True) if url.startswith("wss:") else None
    try:
        return await _Connect(
            url,
            subprotocols=[Subprotocol("session.v1")],
            additional_headers={**options.headers, **headers},
            # The protocol's heartbeats tell what pings would, and the frames are small already.
            ping_interval=None,
            compression=None,
            open_timeout=None,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=options.frame_bytes,
            max_queue=READ_AHEAD_FRAMES,
            proxy=options.proxy,
            ssl=tls,
        )
    except InvalidStatus as error:
        raise LinkFailed(_refused_upgrade(error)) from error
    except ssl.SSLCertVerificationError as error:
        raise LinkFailed(Ending(reason=str(error), is_final=True)) from error
    except (ValueError, InvalidURI) as error:
        raise LinkFailed(Ending(reason=f"this is no address: {error}", is_final=True)) from error
    except (OSError, InvalidHandshake) as error:
        raise LinkFailed(Ending(reason=f"{type(error).__name__}: {error}")) from error


async def _greet(socket: ws.ClientConnection, hello: Frame) -> Welcome:
    retry_after_s = 0.0
    try:
        await socket.send(encode(hello))
        while True:
            frame = decode(await socket.recv(decode=False))
            if frame["type"] == "welcome":
                return Welcome.of(frame)
            # An error before the welcome says why the close that follows it comes, and when to come back.
            if frame["type"] == "error":
                retry_after_s = refusal(frame).retry_after_s
    except ConnectionClosed as closed:
        code = None if closed.rcvd is None else closed.rcvd.code
        reason = "closed before the welcome" if closed.rcvd is None else closed.rcvd.reason
        raise LinkFailed(Ending(code=code, reason=reason, retry_after_s=retry_after_s)) from closed
    except (KeyError, TypeError, ValueError) as error:
        raise LinkFailed(Ending(reason=f"unreadable welcome: {error!r}")) from error


def _refused_upgrade(error: InvalidStatus) -> Ending:
    response = error.response
    return Ending(
        status=response.status_code,
        reason=(response.body or b"")[:200].decode(errors="replace").strip() or response.reason_phrase,
        retry_after_s=_seconds(response.headers.get("Retry-After")),
    )


def _seconds(header: str | None) -> float:
    # The date form of Retry-After is left to our own back-off: no gateway sends it.
    try:
        return max(0.0, float(header)) if header is not None else 0.0
    except ValueError:
        return 0.0
