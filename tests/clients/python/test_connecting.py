"""Getting connected, getting lost, and coming back, or not."""

import asyncio
from functools import partial
from http import HTTPStatus

import pytest

from session_gateway_client import (
    Client,
    ClientClosed,
    Connected,
    Disconnected,
    Event,
    Options,
    RequestRefused,
    connect,
)
from session_gateway_client.frames import HELLO_BYTES, encode
from tests.clients.python.scripted import OTHER, SESSION, TOKEN, Constant, Frame, ManualClock, Peer, gateway
from tests.process import free_port
from tests.waiting import until


async def welcome(peer: Peer) -> None:
    await peer.welcome()


async def opened(peer: Peer) -> None:
    await peer.opened()


async def test_it_says_hello_with_its_token_and_is_open_when_welcomed() -> None:
    async with gateway(welcome) as server, server.client() as client:
        hello = server.peers[0].received[0]
        assert hello == {"type": "hello", "client": {"name": "python", "version": "1.0.0"}, "token": TOKEN}
        assert server.peers[0].socket.subprotocol == "session.v1"
        assert TOKEN not in server.requests[0].path
        assert (client.state, client.user, client.tenant, client.connection) == (
            "open",
            "alice",
            "default",
            "c-1",
        )
        assert client.limits["message_bytes"] == 65_536


async def test_leaving_it_closes_with_1000_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with gateway(opened) as server:
        async with server.client() as client:
            await client.open()
        assert client.state == "closed"
        await until(lambda: server.peers[0].socket.close_code == 1000)
        assert {task for task in asyncio.all_tasks() - before if "gateway" in task.get_name()} == set()


async def test_closing_twice_and_closing_from_a_listener_are_harmless() -> None:
    async with gateway(opened) as server, server.client() as client:
        closings: list[asyncio.Task[None]] = []
        client.on_event(lambda event: closings.append(asyncio.ensure_future(client.close())))
        await asyncio.gather(client.close(), client.close())
        await asyncio.gather(*closings)
        with pytest.raises(Exception, match="closed"):
            await client.open()


async def test_closing_from_inside_the_token_provider_does_not_hang() -> None:
    async def provider() -> str:
        await client.close()
        return TOKEN

    async with gateway() as server:
        client = connect(server.url, token_provider=provider, options=Options(proxy=None))
        with pytest.raises(ClientClosed):
            await client.__aenter__()
        assert server.requests == []


async def test_the_wrong_arguments_are_refused_before_anything_is_connected() -> None:
    with pytest.raises(ValueError, match="either"):
        connect("ws://127.0.0.1/ws")
    with pytest.raises(Exception, match="isn't a valid URI"):
        connect("http://127.0.0.1/ws", token=TOKEN)
    with pytest.raises(RuntimeError, match="async with"):
        _ = connect("ws://127.0.0.1/ws", token=TOKEN).state


async def test_nobody_there_is_told_after_the_open_timeout() -> None:
    options = Options(open_timeout_s=0.3, proxy=None, random=Constant(0.5))
    with pytest.raises(Disconnected, match=r"no connection within 0.3 s: .*refused|Connect"):
        async with connect(f"ws://127.0.0.1:{free_port()}/ws", token=TOKEN, options=options):
            pass


async def test_a_gateway_that_never_says_welcome_is_given_up_and_tried_again() -> None:
    async def mute(peer: Peer) -> None:
        await peer.expect("hello")

    async with gateway(mute, welcome) as server, server.client(handshake_timeout_s=0.2) as client:
        assert client.state == "open"
        assert len(server.peers) == 2


@pytest.mark.parametrize("code", [4500, 4502, 4504, 1002, 1009])
async def test_sent_away_before_the_welcome_entering_fails_with_the_code(code: int) -> None:
    async def send_away(peer: Peer) -> None:
        await peer.expect("hello")
        await peer.close(code, "go away")

    async with gateway(send_away) as server:
        with pytest.raises(Disconnected, match="go away") as raised:
            async with server.client():
                pass
        assert raised.value.code == code


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND])
async def test_a_refused_upgrade_that_waiting_does_not_help_is_final(status: HTTPStatus) -> None:
    async with gateway() as server:
        server.upgrades = [(status, {})]
        with pytest.raises(Disconnected) as raised:
            async with server.client():
                pass
        assert raised.value.status == status


async def test_retry_after_of_a_busy_gateway_is_obeyed() -> None:
    clock = ManualClock()
    async with gateway(welcome) as server:
        server.upgrades = [(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "7"})]
        client = server.client(clock=clock, open_timeout_s=1000)
        entering = asyncio.ensure_future(client.__aenter__())
        # 7 s, and half of the quarter second of jitter.
        await until(lambda: clock.sleeps(7.125))
        assert len(server.requests) == 1
        clock.advance(7.2)
        await entering
        await client.close()


async def test_a_redirect_is_not_followed_with_the_credential() -> None:
    async with gateway() as server:
        server.upgrades = [(HTTPStatus.FOUND, {"Location": "ws://127.0.0.1:1/ws"})]
        server.upgrades += [(HTTPStatus.FORBIDDEN, {})]
        with pytest.raises(Disconnected) as raised:
            async with server.client():
                pass
        assert raised.value.status == HTTPStatus.FORBIDDEN


async def test_a_lost_connection_is_resumed_with_token_and_cursors() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 3)
        peer.drop()

    hellos: list[Frame] = []

    async def second(peer: Peer) -> None:
        hellos.append(await peer.welcome(resumed=True, resume="resume-2"))
        await peer.attached(since=3, head=3)
        peer.drop()

    async def third(peer: Peer) -> None:
        hellos.append(await peer.welcome())
        await peer.attached(since=3, head=3)

    async with gateway(first, second, third) as server, server.client() as client:
        seen: list[Event] = []
        client.on_event(seen.append)
        session = await client.open()
        await until(lambda: len(hellos) == 2)
        # Rotated: each welcome brings the token of the next hello.
        assert [hello["resume"] for hello in hellos] == ["resume-1", "resume-2"]
        assert [hello["attach"] for hello in hellos] == [[{"session": SESSION, "since": 3}]] * 2
        assert session.waiting == 3
        await until(lambda: client.state == "open")
        assert [event.resumed for event in seen if isinstance(event, Connected)] == [True, False]


@pytest.mark.parametrize("code", [4000, 4001, 4002, 4003, 4004, 4005, 4029, 4444, 1011])
async def test_it_comes_back_after_a_close_that_says_so(code: int) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.close(code)

    async with gateway(first, welcome) as server, server.client(random=Constant(0.0)) as client:
        await until(lambda: len(server.peers) == 2 and client.state == "open")


@pytest.mark.parametrize("code", [1000, 1001, 1007, 4500, 4501, 4502, 4503, 4504, 4888])
async def test_it_stays_away_after_a_close_that_says_so_and_everybody_hears_why(code: int) -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.expect("send")
        await peer.close(code, "enough")

    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        with pytest.raises(Disconnected, match="enough") as raised:
            await session.send("lost")
        assert raised.value.code == code
        with pytest.raises(Disconnected):
            await anext(session)
        with pytest.raises(Disconnected):
            await client.attach(OTHER)
        assert client.state == "closed"


async def test_the_delays_between_tries_grow_and_start_anew_after_ten_good_seconds() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.welcome()
        peer.drop()

    async with gateway(first) as server, server.client(clock=clock, open_timeout_s=1000) as client:
        server.upgrades = [(HTTPStatus.SERVICE_UNAVAILABLE, {})] * 2
        server.then(first, welcome, welcome)
        for delay in (0.125, 0.25, 0.5, 1.0):
            await until(partial(clock.sleeps, delay))
            clock.advance(delay)
        await until(lambda: client.state == "open" and len(server.peers) == 3)
        clock.advance(10.0)
        server.peers[-1].drop()
        await until(lambda: clock.sleeps(0.125))
        clock.advance(0.125)
        await until(lambda: client.state == "open" and len(server.peers) == 4)


async def test_retry_now_does_not_wait() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        peer.drop()

    async with gateway(first, welcome) as server, server.client(clock=ManualClock()) as client:
        await until(lambda: client.state == "waiting")
        client.retry_now()
        await until(lambda: client.state == "open" and len(server.peers) == 2)


async def test_an_overloaded_gateway_is_left_alone_for_longer() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.close(4005)

    async with gateway(first, welcome) as server, server.client(clock=clock):
        # Half of 4 s, not half of a quarter of a second.
        await until(lambda: clock.sleeps(2.0))


async def test_a_fresh_token_is_asked_for_before_every_connection_and_a_failing_provider_is_asked_again() -> (
    None
):
    tokens = iter(["one", None, "two"])

    async def provider() -> str:
        if (token := next(tokens)) is None:
            raise OSError("the token server is away")
        return token

    hellos: list[Frame] = []

    async def first(peer: Peer) -> None:
        hellos.append(await peer.welcome())
        peer.drop()

    async def second(peer: Peer) -> None:
        hellos.append(await peer.welcome())

    options = Options(proxy=None, random=Constant(0.0))
    async with gateway(first, second) as server:
        client = connect(server.url, token_provider=provider, options=options)
        async with client:
            await until(lambda: len(hellos) == 2)
    assert [hello["token"] for hello in hellos] == ["one", "two"]


async def test_a_hello_stays_within_what_the_gateway_takes_and_the_rest_is_attached_after_it() -> None:
    ids = [f"0192f0c1-0000-7000-8000-{n:012d}" for n in range(64)]

    async def first(peer: Peer) -> None:
        await peer.welcome()
        for _ in ids:
            request = await peer.expect("attach")
            await peer.attached(id=request["id"], session=request["session"], since=5, head=5)
        await peer.expect("signal")
        peer.drop()

    named: list[str] = []

    async def second(peer: Peer) -> None:
        hello = await peer.welcome()
        assert len(encode(hello).encode()) <= HELLO_BYTES
        named.extend(reference["session"] for reference in hello["attach"])
        for session in tuple(named):
            await peer.attached(session=session, since=5, head=5)
        while len(named) < len(ids):
            request = await peer.expect("attach")
            assert request["since"] == 5
            named.append(request["session"])
            await peer.attached(id=request["id"], session=request["session"], since=5, head=5)

    async with gateway(first, second) as server, server.client(token="t" * 1500) as client:
        sessions = [await client.attach(id, since=5) for id in ids]
        sessions[0].signal("done")
        await until(lambda: len(named) == len(ids))
        assert sorted(named) == sorted(ids)


async def test_a_token_too_large_for_the_hello_goes_into_the_header() -> None:
    async with gateway(welcome) as server, server.client(token="t" * 3000):
        assert server.requests[0].headers["Authorization"] == "Bearer " + "t" * 3000
        assert "token" not in server.peers[0].received[0]


async def test_an_expiring_credential_is_renewed_in_mid_connection() -> None:
    tokens = iter(["one", "two"])

    async def provider() -> str:
        return next(tokens)

    refreshed = asyncio.Event()

    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.send("expiring", in_ms=60_000)
        request = await peer.expect("refresh")
        assert request["token"] == "two"
        await peer.send("refreshed", id=request["id"], expires_at="2025-11-21T13:00:00.000Z")
        refreshed.set()

    options = Options(proxy=None)
    async with gateway(first) as server, connect(server.url, token_provider=provider, options=options):
        await refreshed.wait()


async def test_a_refused_renewal_is_told_and_the_connection_goes_on() -> None:
    async def provider() -> str:
        return TOKEN

    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.expect("signal")
        await peer.send("expiring", in_ms=60_000)
        await peer.refuse(await peer.expect("refresh"), "forbidden")

    async with gateway(first) as server:
        client: Client = connect(server.url, token_provider=provider, options=Options(proxy=None))
        async with client:
            seen: list[Event] = []
            client.on_event(seen.append)
            client._entered.offer({"type": "signal", "session": SESSION, "name": "go"})
            await until(lambda: RequestRefused("forbidden", "no") in seen)
            assert client.state == "open"


async def test_a_frame_that_cannot_be_read_costs_the_connection_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.socket.send('{"type":"message","session":12,"seq":"x"')

    async with gateway(first, welcome) as server, server.client(random=Constant(0.0)) as client:
        await until(lambda: len(server.peers) == 2 and client.state == "open")
        assert "cannot be read" in caplog.text


async def test_unknown_frames_and_fields_are_ignored() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome(news="yes")
        await peer.send("stream.opened", session=SESSION, stream="1")
        await peer.send("weather", sky="blue")
        await peer.opened_on_request()

    async with gateway(first) as server, server.client() as client:
        assert (await client.open()).id == SESSION


async def test_a_welcome_that_cannot_be_read_is_no_welcome() -> None:
    async def first(peer: Peer) -> None:
        await peer.expect("hello")
        await peer.send("welcome", connection="c")

    async with gateway(first, welcome) as server, server.client() as client:
        assert client.state == "open"
        assert "unreadable welcome" in client.reason


async def test_an_error_before_the_welcome_says_when_to_come_back() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.expect("hello")
        await peer.send("error", code="limit_reached", message="", retryable=False, retry_after_ms=3000)
        await peer.close(4005)

    async with gateway(first, welcome) as server:
        client = server.client(clock=clock, open_timeout_s=1000)
        entering = asyncio.ensure_future(client.__aenter__())
        await until(lambda: clock.sleeps(3.125))
        clock.advance(3.2)
        await entering
        await client.close()
