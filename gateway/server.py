"""Serves a gateway: two ports, one loop, and an end that loses nothing.

uvicorn closes every WebSocket before it tells the application that it stops. Whoever is connected has to be
told before that, so the drain stands here, in front of uvicorn's own shutdown.
"""

import asyncio
import contextlib
import errno
import gc
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Protocol, cast

import msgspec
import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from gateway import __version__
from gateway.addresses import redacted
from gateway.settings import Settings, variable
from gateway.settings_table import CREDENTIALS
from store.errors import StoreError

PORT: Final = "GATEWAY_PORT"
OPS_PORT: Final = "GATEWAY_OPS_PORT"

# What is in flight is committed and answered in well under a second. The committer gives a disk that has a
# bad moment 4.25 s; this is more than that.
DRAIN_GRACE_S: Final = 6.0

# After a second signal nobody is waited for any more but the last commit, so most often this is milliseconds.
HURRY_S: Final = DRAIN_GRACE_S

# HTTP answers under way when the sockets are gone.
_HTTP_GRACE_S: Final = 3

# Clients that come back all at once are new objects by the hundred thousand, hardly any of them garbage in a
# cycle. Python looks for such after every 700: a fifth of what a reconnect storm costs (docs/performance.md).
_COLLECT_AFTER: Final = (20_000, 10, 10)

# Connections the kernel holds while the loop is busy: four seconds of the accept rate.
_BACKLOG: Final = 2048

_log = structlog.stdlib.get_logger(__name__)


class Serving(Protocol):
    """What can be served. The composition root makes one; tests make small ones."""

    @property
    def asgi(self) -> ASGIApp:
        """The application of the port for clients."""

    @property
    def ops(self) -> ASGIApp:
        """The application of the operations port."""

    @property
    def http_protocol(self) -> type[asyncio.BaseProtocol]:
        """uvicorn's `http=` class."""

    @property
    def ws_protocol(self) -> type[asyncio.BaseProtocol]:
        """uvicorn's `ws=` class."""

    async def start(self) -> None:
        """Begin to work. The operations port answers already, the port for clients does not yet."""

    def leave(self) -> None:
        """Be not ready and let nobody in from now on, and begin to drain. May come before `start` is over."""

    def hurry(self) -> None:
        """Wait for no client any more; what is in flight is answered all the same."""

    async def drain(self) -> None:
        """Return when everybody has moved or was sent away. May be cancelled; `stop` follows."""

    async def stop(self) -> None:
        """End all work. Also called when `start` failed."""


class CannotServe(Exception):
    """The gateway cannot be started; the message says why, and what to do."""


class Facts(msgspec.Struct, frozen=True):
    """What the person who started a gateway has to know."""

    settings: Settings
    url: str
    ops_url: str

    @property
    def sign_in(self) -> str:
        """Who gets in."""
        for field in CREDENTIALS:
            if getattr(self.settings, field) is not None:
                return f"whoever has a token that {variable(field)} says is good"
        return "development mode: anybody on this machine, by any name (a key was made in the data folder)"

    @property
    def data(self) -> str:
        """Where messages are kept."""
        url = self.settings.database_url
        return str(self.settings.data_dir.resolve()) if url is None else redacted(url)

    @property
    def others(self) -> str | None:
        """Which other nodes there may be; None where nobody would expect any."""
        if self.settings.redis_url is not None:
            prefix = self.settings.redis_prefix
            return f"all that share {redacted(self.settings.redis_url)} and the prefix {prefix}"
        if self.settings.database_url is not None:
            return (
                "none allowed on this database without GATEWAY_REDIS_URL: they would not hear of each other"
            )
        return None

    def lines(self) -> list[str]:
        """Say it to a person."""
        others = [] if self.others is None else [f"  others    {self.others}"]
        return [
            f"session-gateway {__version__} is ready, node {self.settings.node_id}",
            f"  open      {self.url}",
            f"  sign in   {self.sign_in}",
            f"  data      {self.data}",
            *others,
            f"  health    {self.ops_url}/readyz, metrics at /metrics",
        ]


def run(settings: Settings, gateway: Serving, announce: Callable[[Facts], None]) -> None:
    """Serve until told to stop, on a loop of its own. CannotServe."""
    relax_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, gateway, announce))


async def serve(settings: Settings, gateway: Serving, announce: Callable[[Facts], None]) -> None:
    """Open both ports, start, announce, serve until SIGTERM or SIGINT, drain, stop. CannotServe.

    Health answers as long as there is anything to say: the operations port opens first and closes last.
    """
    raise_file_limit()
    main = GatewayServer(gateway, settings.drain_s)
    operations = _Server(_config(gateway.ops))
    with (
        listener(settings.host, settings.port, PORT) as main_socket,
        listener(settings.ops_host, settings.ops_port, OPS_PORT) as ops_socket,
        _signals(main.ask_to_stop),
    ):
        facts = Facts(settings, url_of(settings.host, main_socket), url_of(settings.ops_host, ops_socket))
        async with _running(operations, ops_socket, OPS_PORT):
            try:
                await _start(gateway)
                async with _running(main, main_socket, PORT) as serving:
                    announce(facts)
                    await serving
            finally:
                await gateway.stop()


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to us and tells when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not uvicorn's business: it would raise them again at its end, and exit as if it had been killed."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


class GatewayServer(_Server):
    """The port for clients. Drains before uvicorn shuts down."""

    def __init__(self, gateway: Serving, drain_s: float) -> None:
        super().__init__(_config(gateway.asgi, gateway.http_protocol, gateway.ws_protocol))
        self._gateway = gateway
        self._drain_s = drain_s
        self._hurry = asyncio.Event()

    def ask_to_stop(self) -> None:
        """Begin to stop. Asked again: hurry, but lose nothing."""
        if self.should_exit:
            _log.info("stopping_hurried")
            self._gateway.hurry()
            self._hurry.set()
        else:
            _log.info("stopping", drain_s=self._drain_s)
            self._gateway.leave()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, in bounded time; then close what is left."""
        drain = asyncio.create_task(self._drain(), name="drain")
        hurry = asyncio.create_task(self._hurry.wait(), name="hurry")
        try:
            await asyncio.wait(
                {drain, hurry}, timeout=self._drain_s + DRAIN_GRACE_S, return_when=asyncio.FIRST_COMPLETED
            )
            if self._hurry.is_set():
                await asyncio.wait({drain}, timeout=HURRY_S)
            if not drain.done():
                # Nobody loses an acked message by it: those left are closed and send again what was not.
                _log.warning("drain_cut_short", hurried=self._hurry.is_set())
        finally:
            for task in (drain, hurry):
                task.cancel()
            await asyncio.wait({drain, hurry}, timeout=HURRY_S)
        await super().shutdown(sockets)

    async def _drain(self) -> None:
        try:
            await self._gateway.drain()
        except Exception:
            # A bug there must not keep the process from ending.
            _log.exception("drain_failed")


def _config(
    app: ASGIApp,
    http: type[asyncio.BaseProtocol] | None = None,
    ws: type[asyncio.BaseProtocol] | None = None,
) -> uvicorn.Config:
    """Say everything that uvicorn would else take from the environment, guess or log in its own way."""
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], http) if http else "httptools",
        ws=cast(type[asyncio.Protocol], ws) if ws else "none",
        loop="none",
        lifespan="off",
        interface="asgi3",
        workers=1,
        log_config=None,
        access_log=False,
        server_header=False,
        # The edge reads X-Forwarded-For itself, from GATEWAY_TRUSTED_PROXIES.
        proxy_headers=False,
        forwarded_allow_ips="",
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_HTTP_GRACE_S,
    )


@contextlib.asynccontextmanager
async def _running(server: _Server, sock: socket.socket, setting: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run a server on a bound socket; at the end, stop it and wait for it. CannotServe."""
    task = asyncio.create_task(server.serve(sockets=[sock]), name="server")
    started = asyncio.create_task(server.has_started.wait(), name="server start")
    try:
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            try:
                await task
            except OSError as error:
                # Two sockets may be bound to one port as long as neither listens.
                raise CannotServe(_why(error, *sock.getsockname()[:2], setting=setting)) from error
        yield task
    finally:
        started.cancel()
        server.should_exit = True
        await asyncio.wait({task, started})


async def _start(gateway: Serving) -> None:
    try:
        await gateway.start()
    except (StoreError, OSError) as error:
        raise CannotServe(f"The gateway cannot start: {error}. `gateway doctor` tells more.") from error


@contextlib.contextmanager
def _signals(act: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


# -- sockets


def listener(host: str, port: int, setting: str) -> socket.socket:
    """Bind a socket; port 0 takes a free one. CannotServe, naming the setting that would help."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotServe(_no_such_host(host, setting)) from error
    # "localhost" has two addresses; clients that try the other one first come here next.
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        # Old connections of a gateway that was killed may linger for a minute; they do not take the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise CannotServe(_why(error, host, port, setting=setting)) from error
    sock.setblocking(False)
    return sock


def _why(error: OSError, host: str, port: int, *, setting: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"Port {port} on {host} is taken: stop the other program, or change {setting}."
        case errno.EACCES:
            return f"Port {port} on {host} is not allowed to this user: change {setting} to one above 1023."
        case errno.EADDRNOTAVAIL:
            return _no_such_host(host, setting)
    return f"Port {port} on {host} cannot be opened: {error.strerror}."


def _no_such_host(host: str, setting: str) -> str:
    return f"{host} is no address of this machine: change {setting.replace('PORT', 'HOST')}."


def url_of(host: str, sock: socket.socket) -> str:
    """Print where a bound socket is found, with its real port."""
    port = sock.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def relax_collector() -> None:
    """Look for garbage in cycles less often, and never among what is there before anybody connects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def raise_file_limit() -> None:
    """Take as many files as this process may have: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
