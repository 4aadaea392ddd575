"""How a gateway is served: ports, signals, the order of its end, and what is said when it cannot begin."""

import asyncio
import errno
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway import server
from gateway.server import CannotServe, Facts, listener, serve, url_of
from gateway.settings import Settings
from store.errors import Unavailable
from tests.process import free_port
from tests.waiting import turns, until


class SmallGateway:
    """The least that can be served; writes down what happens to it."""

    http_protocol: type[asyncio.BaseProtocol] = HttpToolsProtocol
    ws_protocol: type[asyncio.BaseProtocol] = WebSocketsSansIOProtocol

    def __init__(self) -> None:
        self.told: list[str] = []
        self.is_ready = False
        self.fails: Exception | None = None
        self.draining: Callable[[], Awaitable[object]] | None = None
        self.drained = asyncio.Event()
        self.hurried = 0

    @property
    def asgi(self) -> ASGIApp:
        return Starlette(routes=[Route("/who", self._who), WebSocketRoute("/ws", self._echo)])

    @property
    def ops(self) -> ASGIApp:
        return Starlette(routes=[Route("/readyz", self._readyz)])

    async def start(self) -> None:
        self.told.append("start")
        if self.fails is not None:
            raise self.fails
        self.is_ready = True

    def leave(self) -> None:
        self.is_ready = False

    def hurry(self) -> None:
        self.hurried += 1

    async def drain(self) -> None:
        self.told.append("drain")
        if self.draining is not None:
            await self.draining()
        self.told.append("drained")
        self.drained.set()

    async def stop(self) -> None:
        self.told.append("stop")

    async def _who(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("small")

    async def _echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.send_text(await websocket.receive_text())

    async def _readyz(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("", 200 if self.is_ready else 503)


@asynccontextmanager
async def serving(
    gateway: SmallGateway, drain_s: float = 5
) -> AsyncIterator[tuple[Facts, "asyncio.Task[None]"]]:
    """Serve until the block ends, or until it has stopped the gateway itself."""
    announced: asyncio.Future[Facts] = asyncio.get_running_loop().create_future()
    settings = Settings(port=0, ops_port=0, drain_s=drain_s)
    task = asyncio.create_task(serve(settings, gateway, announced.set_result))
    try:
        yield await asyncio.wait_for(announced, 5), task
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 10)


async def get(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(url)).status_code


# -- serving


async def test_both_ports_answer_when_it_is_announced() -> None:
    async with serving(SmallGateway()) as (facts, _):
        assert await get(f"{facts.url}/who") == 200
        assert await get(f"{facts.ops_url}/readyz") == 200
        # What is said on one port is not said on the other.
        assert await get(f"{facts.url}/readyz") == 404
        assert await get(f"{facts.ops_url}/who") == 404


async def test_port_0_prints_the_real_ports() -> None:
    async with serving(SmallGateway()) as (facts, _):
        assert facts.url.startswith("http://127.0.0.1:")
        ports = {int(url.rpartition(":")[2]) for url in (facts.url, facts.ops_url)}
        assert len(ports) == 2
        assert 0 not in ports
        assert facts.url in "\n".join(facts.lines())


async def test_nothing_of_the_server_is_told_to_clients() -> None:
    async with serving(SmallGateway()) as (facts, _), httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{facts.url}/who")
        assert "server" not in answer.headers


async def test_a_proxy_nobody_named_cannot_choose_the_address_of_a_client() -> None:
    seen: list[str] = []

    class Curious(SmallGateway):
        async def _who(self, request: Request) -> PlainTextResponse:
            assert request.client is not None
            seen.append(request.client.host)
            return PlainTextResponse(request.url.scheme)

    async with serving(Curious()) as (facts, _), httpx.AsyncClient(trust_env=False) as http:
        headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
        assert (await http.get(f"{facts.url}/who", headers=headers)).text == "http"
    assert seen == ["127.0.0.1"]


def test_who_may_sign_in_is_said() -> None:
    def lines(**changes: str) -> str:
        return "\n".join(Facts(Settings(**changes), "http://x", "http://y").lines())  # type: ignore[arg-type]

    assert "development mode: anybody on this machine" in lines()
    assert "GATEWAY_JWT_SECRET" in lines(jwt_secret="s" * 32)
    assert "s" * 32 not in lines(jwt_secret="s" * 32)
    assert "GATEWAY_JWKS_URL" in lines(jwks_url="https://issuer.example/")
    assert str(Path("data").resolve()) in lines()


def test_where_the_data_is_and_who_else_is_there_is_said_without_a_password() -> None:
    database, redis = "postgresql://u:hunter2@h/d", "redis://:hunter2@r:6379"
    for url, expected in (
        (None, "without GATEWAY_REDIS_URL"),
        (redis, "redis://:***@r:6379 and the prefix gateway"),
    ):
        said = "\n".join(
            Facts(Settings(database_url=database, redis_url=url), "http://x", "http://y").lines()
        )
        assert "data      postgresql://u:***@h/d\n" in said
        assert expected in said
        assert "hunter2" not in said
    assert "others" not in "\n".join(Facts(Settings(), "http://x", "http://y").lines())


# -- the end


async def test_the_end_is_drain_then_stop() -> None:
    gateway = SmallGateway()
    async with serving(gateway) as (_, task):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    assert gateway.told == ["start", "drain", "drained", "stop"]


async def test_interrupting_is_the_same_as_terminating() -> None:
    gateway = SmallGateway()
    async with serving(gateway) as (_, task):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(task, 10)
    assert gateway.told == ["start", "drain", "drained", "stop"]


async def test_health_answers_and_sockets_stay_open_until_the_drain_is_over() -> None:
    gateway, leave = SmallGateway(), asyncio.Event()
    gateway.draining = leave.wait
    async with serving(gateway) as (facts, task):
        async with connect(facts.url.replace("http", "ws") + "/ws", proxy=None) as client:
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: "drain" in gateway.told)
            assert await get(f"{facts.ops_url}/readyz") == 503
            await client.send("still there?")
            assert await client.recv() == "still there?"
            leave.set()
            with pytest.raises(ConnectionClosed):
                await client.recv()
        await asyncio.wait_for(task, 10)
    assert gateway.told == ["start", "drain", "drained", "stop"]


async def test_a_second_signal_hurries_and_still_lets_the_drain_finish() -> None:
    gateway, leave = SmallGateway(), asyncio.Event()
    gateway.draining = leave.wait
    async with serving(gateway, drain_s=600) as (_, task):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: "drain" in gateway.told)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: gateway.hurried == 2)
        leave.set()
        await asyncio.wait_for(task, 10)
    assert gateway.told == ["start", "drain", "drained", "stop"]


async def test_a_node_is_not_ready_from_the_moment_of_the_signal() -> None:
    gateway = SmallGateway()
    async with serving(gateway) as (_, task):
        # The handler runs in the loop's next turns; uvicorn itself looks ten times a second.
        os.kill(os.getpid(), signal.SIGTERM)
        await turns(3)
        assert not gateway.is_ready
        assert "drain" not in gateway.told
        await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("hurried", [True, False])
async def test_a_drain_that_does_not_end_is_cut_short_and_the_gateway_still_stopped(
    monkeypatch: pytest.MonkeyPatch, hurried: bool
) -> None:
    monkeypatch.setattr(server, "HURRY_S", 0.1)
    monkeypatch.setattr(server, "DRAIN_GRACE_S", 60 if hurried else 0.1)
    gateway = SmallGateway()
    gateway.draining = asyncio.Event().wait
    async with serving(gateway, drain_s=0.1) as (_, task):
        os.kill(os.getpid(), signal.SIGTERM)
        if hurried:
            await until(lambda: "drain" in gateway.told)
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    assert gateway.told == ["start", "drain", "stop"]


async def test_a_bug_in_the_drain_does_not_keep_the_gateway_from_stopping() -> None:
    async def broken() -> None:
        raise RuntimeError("a bug")

    gateway = SmallGateway()
    gateway.draining = broken
    async with serving(gateway) as (_, task):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    assert gateway.told == ["start", "drain", "stop"]


async def test_a_signal_during_the_start_is_not_lost() -> None:
    class Slow(SmallGateway):
        async def start(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            await super().start()

    gateway = Slow()
    await asyncio.wait_for(serve(Settings(port=0, ops_port=0), gateway, lambda facts: None), 10)
    assert gateway.told == ["start", "drain", "drained", "stop"]


async def test_signals_are_everybody_elses_again_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving(SmallGateway()):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) != before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# -- what cannot begin


async def test_a_taken_port_is_told_before_anything_is_opened() -> None:
    for busy in ("port", "ops_port"):
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            gateway = SmallGateway()
            settings = Settings(**{"port": 0, "ops_port": 0, busy: taken})
            with pytest.raises(
                CannotServe, match=f"Port {taken} on 127.0.0.1 is taken: .* GATEWAY_{busy.upper()}"
            ):
                await serve(settings, gateway, lambda facts: None)
            assert gateway.told == []


async def test_a_port_taken_at_the_last_moment_is_told_too() -> None:
    # Two sockets may be bound to one port as long as neither listens.
    gateway = SmallGateway()
    port = free_port()
    rival = listener("127.0.0.1", port, "GATEWAY_PORT")

    class Rival(SmallGateway):
        async def start(self) -> None:
            await super().start()
            rival.listen()

    gateway = Rival()
    with rival, pytest.raises(CannotServe, match=f"Port {port} on 127.0.0.1 is taken"):
        await serve(Settings(port=port, ops_port=0), gateway, lambda facts: None)
    assert gateway.told == ["start", "stop"]


async def test_a_gateway_that_cannot_start_is_stopped_and_says_why() -> None:
    gateway = SmallGateway()
    gateway.fails = Unavailable("the disk is full")
    with pytest.raises(CannotServe, match="cannot start: the disk is full"):
        await serve(Settings(port=0, ops_port=0), gateway, lambda facts: None)
    assert gateway.told == ["start", "stop"]


async def test_a_port_is_free_again_at_once() -> None:
    port = free_port()
    for _ in range(3):
        task = asyncio.create_task(serve(Settings(port=port, ops_port=0), SmallGateway(), lambda facts: None))

        async def answers() -> bool:
            try:
                return await get(f"http://127.0.0.1:{port}/who") == 200
            except httpx.TransportError:
                return False

        await until(answers)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 10)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "not allowed to this user: change GATEWAY_PORT"),
        (errno.EADDRNOTAVAIL, "no address of this machine: change GATEWAY_HOST"),
        (errno.ENOBUFS, "cannot be opened"),
    ],
)
def test_each_reason_has_its_advice(monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(CannotServe, match=advice):
        listener("127.0.0.1", 80, "GATEWAY_PORT")


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(CannotServe, match="is no address of this machine: change GATEWAY_OPS_HOST"):
        listener("nowhere.invalid", 0, "GATEWAY_OPS_PORT")


def test_names_and_the_newer_protocol_have_addresses_too() -> None:
    with listener("localhost", 0, "GATEWAY_PORT") as sock:
        assert sock.family == socket.AF_INET
    with listener("::1", 0, "GATEWAY_PORT") as sock:
        assert url_of("::1", sock).startswith("http://[::1]:")


def test_little_time_is_spent_on_looking_for_garbage(request: pytest.FixtureRequest) -> None:
    class Looking(SmallGateway):
        async def start(self) -> None:
            await super().start()
            seen.append((gc.get_threshold()[0], gc.get_freeze_count()))
            raise Unavailable("enough")

    seen: list[tuple[int, int]] = []
    request.addfinalizer(partial(gc.set_threshold, *gc.get_threshold()))
    request.addfinalizer(gc.unfreeze)
    with pytest.raises(CannotServe):
        server.run(Settings(port=0, ops_port=0), Looking(), lambda facts: None)
    ((after, frozen),) = seen
    assert after >= 10_000
    assert frozen > 1_000


def test_what_is_relied_on_in_uvicorn_is_there() -> None:
    # The drain is in front of uvicorn's shutdown; both names are uvicorn's to change.
    for name in ("startup", "shutdown", "main_loop", "capture_signals", "serve"):
        assert callable(getattr(uvicorn.Server, name))
