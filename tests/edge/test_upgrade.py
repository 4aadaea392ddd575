"""What is answered to a request for a WebSocket, and to whatever else comes to the port."""

import asyncio
import logging
import socket

import pytest

from gateway.edge.handler import Rejection, UpgradeRequest
from tests.edge.peer import TEXT, client_frame, closing, request
from tests.edge.serving import Served, Start
from tests.waiting import turns, until


async def test_the_key_is_answered_as_the_rfc_says(served: Served) -> None:
    # The example of RFC 6455 1.3.
    peer = await served.dial()
    answer = await peer.upgrade(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==")
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer.headers["upgrade"].lower() == "websocket"
    assert answer.headers["connection"].lower() == "upgrade"


async def test_no_extension_is_agreed_on(served: Served) -> None:
    peer = await served.dial()
    answer = await peer.upgrade(sec_websocket_extensions="permessage-deflate; client_max_window_bits")
    assert "sec-websocket-extensions" not in answer.headers


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("session.v1", "session.v1"),
        ("chat, session.v1, bearer.abc", "session.v1"),
        ("bearer.abc", None),
        ("chat", None),
        ("", None),
    ],
)
async def test_only_our_subprotocol_is_echoed(served: Served, offered: str, chosen: str | None) -> None:
    peer = await served.dial()
    answer = await peer.upgrade(sec_websocket_protocol=offered)
    assert answer.headers.get("sec-websocket-protocol") == chosen


async def test_small_frames_are_not_held_back_by_the_kernel(served: Served) -> None:
    await served.connect()
    kernel = next(iter(served.edge.sockets)).transport.get_extra_info("socket")
    assert kernel.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_firefox_asks_to_keep_alive_as_well(served: Served) -> None:
    peer = await served.dial()
    await peer.upgrade(connection="keep-alive, Upgrade")


async def test_the_handler_learns_what_was_asked(served: Served) -> None:
    peer = await served.dial()
    await peer.upgrade(
        path="/ws?a=b%20c",
        sec_websocket_protocol="session.v1, other",
        authorization="Bearer the.jwt.token",
        origin="http://gateway.test",
        user_agent="test",
    )
    asked = served.handlers[0].request
    assert (asked.path, asked.query) == ("/ws", "a=b%20c")
    assert asked.subprotocols == ("session.v1", "other")
    assert asked.bearer == "the.jwt.token"
    assert asked.origin == "http://gateway.test"
    assert asked.headers["user-agent"] == "test"
    assert (asked.ip, asked.port) == ("127.0.0.1", peer.sock.getsockname()[1])


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (404, request(path="/elsewhere")),
        (400, request(method="POST")),
        (400, request(version="1.0")),
        (426, request(sec_websocket_version="8")),
        (426, request(sec_websocket_version="")),
        (400, request(sec_websocket_key="")),
        (400, request(sec_websocket_key="dG9vIHNob3J0")),
        (400, request(sec_websocket_key="not base64, not base64, ")),
        (400, request("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")),
        (400, request(content_length="5") + b"hello"),
        (403, request(origin="http://evil.test")),
        (403, request(origin="null")),
        (403, request(cookie="session=1")),
    ],
)
async def test_a_bad_request_is_refused_before_the_upgrade(served: Served, status: int, head: bytes) -> None:
    peer = await served.dial()
    answer = await peer.ask(head)
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    if status == 426:
        assert answer.headers["sec-websocket-version"] == "13"
    await peer.read(int(answer.headers["content-length"]))
    await peer.ended()
    assert not served.handlers
    assert served.edge.counters.rejected[status] == 1


async def test_only_listed_origins_may_connect(serve: Start) -> None:
    served = await serve(origins=("https://chat.test",))
    await served.connect(origin="https://chat.test", cookie="a=b")
    for origin in (
        "http://chat.test",
        "https://chat.test:8443",
        "https://chat.test.evil.test",
        "http://gateway.test",
    ):
        stranger = await served.dial()
        assert (await stranger.ask(request(origin=origin))).status == 403


async def test_the_third_connection_of_an_address_that_may_have_two_is_refused(serve: Start) -> None:
    served = await serve(connections_per_address=2)
    first, _, third = await served.connect(), await served.connect(), await served.dial()
    answer = await third.ask(request())
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) >= 1
    await first.leave()
    await until(lambda: served.edge.counters.connections == 1)
    await served.connect()


async def test_who_comes_too_fast_is_told_when_there_is_room(serve: Start) -> None:
    served = await serve(accepts_per_s=2)
    peers = [await served.dial() for _ in range(10)]
    # One is let in, three wait for a moment, and the others have the places after them.
    answers = await asyncio.gather(*(peer.ask(request()) for peer in peers))
    assert sorted(answer.status for answer in answers) == [101] * 4 + [503] * 6
    told = sorted(int(answer.headers["retry-after"]) for answer in answers if answer.status == 503)
    assert told == [1, 2, 2, 3, 3, 4]
    line = served.edge.admission.line
    assert (line.admitted, line.put_off, line.waiting) == (4, 6, 0)
    # Who was put off is none of its address any more.
    assert served.edge.admission._open == {"127.0.0.1": 4}


async def test_who_waits_for_a_turn_may_have_said_something_already(serve: Start) -> None:
    served = await serve(accepts_per_s=10)
    await served.connect()
    late = await served.dial()
    late.send(request(), client_frame(TEXT, b"with the handshake"))
    await until(lambda: served.edge.admission.line.waiting == 1)
    late.send(client_frame(TEXT, b"and after it"))
    assert (await late.answer()).status == 101
    assert await late.frame() == (TEXT, b"with the handshake")
    assert await late.frame() == (TEXT, b"and after it")


async def test_who_waits_while_the_node_begins_to_leave_is_refused(serve: Start) -> None:
    served = await serve(accepts_per_s=2)
    await served.connect()
    late = await served.dial()
    late.send(request())
    await until(lambda: served.edge.admission.line.waiting == 1)
    served.edge.draining = True
    assert (await late.answer()).status == 503
    assert served.edge.admission.line.admitted == 1


async def test_who_waits_is_no_way_around_the_limit_of_an_address(serve: Start) -> None:
    served = await serve(accepts_per_s=10, connections_per_address=2)
    peers = [await served.dial() for _ in range(4)]
    answers = await asyncio.gather(*(peer.ask(request()) for peer in peers))
    assert sorted(answer.status for answer in answers) == [101, 101, 429, 429]


async def test_one_address_does_not_fill_the_line(serve: Start) -> None:
    served = await serve(accepts_per_s=20, connections_per_address=3, trusted_proxies=("127.0.0.1",))
    line = served.edge.admission.line
    crowd = [await served.dial() for _ in range(60)]
    for peer in crowd:
        peer.send(request(x_forwarded_for="192.0.2.9"))
    await until(lambda: served.edge.counters.rejected[429] == 57)
    assert (line.put_off, line.is_full) == (0, False)
    stranger = await served.dial()
    assert (await stranger.ask(request(x_forwarded_for="198.51.100.1"))).status == 101


async def test_who_waits_and_says_more_than_a_head_may_hold_is_refused(serve: Start) -> None:
    served = await serve(accepts_per_s=2, request_head_bytes=4096)
    await served.connect()
    late = await served.dial()
    late.send(request(), b"x" * 5000)
    assert (await late.answer()).status == 413
    # Its place is the next one's.
    assert (await (await served.dial()).upgrade()).status == 101
    assert served.edge.admission.line.admitted == 2


async def test_who_gives_up_in_the_line_has_used_no_place(serve: Start) -> None:
    served = await serve(accepts_per_s=2)
    await served.connect()
    first, second = await served.dial(), await served.dial()
    first.send(request())
    await until(lambda: served.edge.admission.line.waiting == 1)
    second.send(request())
    await until(lambda: served.edge.admission.line.waiting == 2)
    # As uvicorn does it to everybody when it stops.
    for connection in list(served.connections):
        connection.transport.abort()
    await until(lambda: served.edge.admission.line.waiting == 0)
    assert served.edge.admission.line.admitted == 1


async def test_a_leaving_node_lets_nobody_in_and_nobody_out(served: Served) -> None:
    peer = await served.connect()
    served.edge.draining = True
    stranger = await served.dial()
    assert (await stranger.ask(request())).status == 503
    peer.send(client_frame(TEXT, b"still here"))
    assert await peer.frame() == (TEXT, b"still here")


async def test_the_factory_may_refuse(served: Served) -> None:
    served.answer = lambda request: Rejection(401, "Who are you?", (("www-authenticate", "Bearer"),))
    peer = await served.dial()
    answer = await peer.ask(request())
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert await peer.read(12) == b"Who are you?"


async def test_a_bug_in_the_factory_is_answered_without_detail(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: UpgradeRequest) -> Rejection:
        raise ZeroDivisionError("secret")

    served.answer = fail
    peer = await served.dial()
    answer = await peer.ask(request())
    assert answer.status == 500
    assert b"secret" not in await peer.read(int(answer.headers["content-length"]))
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


async def test_the_first_frames_may_come_with_the_handshake(served: Served) -> None:
    peer = await served.dial()
    # More than the parser's first buffer holds, and the last frame in two pieces.
    frames = b"".join(client_frame(TEXT, b"%d" % n * 50) for n in range(200))
    peer.send(request(), frames[:-5])
    assert (await peer.answer()).status == 101
    for n in range(199):
        assert await peer.frame() == (TEXT, b"%d" % n * 50)
    peer.send(frames[-5:])
    assert await peer.frame() == (TEXT, b"199" * 50)


async def test_a_broken_frame_may_come_with_the_handshake(served: Served) -> None:
    peer = await served.dial()
    peer.send(request(), client_frame(TEXT, b"good"), client_frame(0x3), client_frame(TEXT, b"late") * 500)
    assert (await peer.answer()).status == 101
    assert await peer.closed_with() == 1002
    assert served.handlers[0].texts == [b"good"]


async def test_a_close_may_come_with_the_handshake(served: Served) -> None:
    peer = await served.dial()
    peer.send(request(), closing(1000))
    assert (await peer.answer()).status == 101
    assert await peer.closed_with() == 1000
    assert served.handlers[0].closed == [1000]


async def test_a_request_may_come_byte_by_byte(served: Served) -> None:
    peer = await served.dial()
    for byte in request() + client_frame(TEXT, b"slow"):
        peer.send(bytes((byte,)))
        await turns()
    assert (await peer.answer()).status == 101
    assert await peer.frame() == (TEXT, b"slow")


async def test_a_websocket_may_follow_a_plain_request_on_one_connection(served: Served) -> None:
    peer = await served.dial()
    answer = await peer.ask(b"GET /plain HTTP/1.1\r\nhost: a\r\n\r\n")
    assert await peer.read(int(answer.headers["content-length"])) == b"GET 0"
    await peer.upgrade()
    peer.send(client_frame(TEXT, b"hi"))
    assert await peer.frame() == (TEXT, b"hi")


async def test_a_websocket_does_not_open_before_the_answer_to_an_earlier_request(served: Served) -> None:
    peer = await served.dial()
    peer.send(b"GET /plain HTTP/1.1\r\nhost: a\r\n\r\n", request())
    assert (await peer.answer()).status == 400
    assert not served.handlers


async def test_another_upgrade_is_ignored(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    peer = await served.dial()
    answer = await peer.ask(request(path="/plain", upgrade="h2c", sec_websocket_key=""))
    assert answer.status == 200
    assert not caplog.records


# -- requests that never end


@pytest.mark.parametrize("sent", [b"", b"GET /ws HT", request()[:-2], request()[:-1]])
async def test_who_sends_no_request_within_five_seconds_is_cut_off(served: Served, sent: bytes) -> None:
    peer = await served.dial()
    peer.send(sent)
    await served.settle()
    served.pass_time(4.5)
    assert served.edge.counters.slow_requests == 0
    served.pass_time(1.0)
    assert (await peer.answer()).status == 408
    assert served.edge.counters.slow_requests == 1


async def test_a_second_request_has_no_more_time_than_the_first(served: Served) -> None:
    peer = await served.dial()
    answer = await peer.ask(b"GET /plain HTTP/1.1\r\nhost: a\r\n\r\n")
    await peer.read(int(answer.headers["content-length"]))
    served.pass_time(100.0)
    peer.send(b"GET /plain HTTP/1.1\r\nho")
    await served.settle()
    served.pass_time(5.5)
    assert (await peer.answer()).status == 408


async def test_a_body_that_never_ends_is_cut_off(served: Served) -> None:
    peer = await served.dial()
    peer.send(b"POST /plain HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc")
    await served.settle()
    served.pass_time(31.0)
    assert (await peer.answer()).status == 408


async def test_a_head_that_never_ends_is_cut_off(served: Served) -> None:
    peer = await served.dial()
    peer.send(b"GET /ws HTTP/1.1\r\n", b"a: %b\r\n" % (b"b" * 1000) * 100)
    assert (await peer.answer()).status == 431


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"\x00" * 100]
)
async def test_garbage_is_answered_once_and_not_logged(
    served: Served, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await served.dial()
    assert (await peer.ask(garbage)).status == 400
    assert not caplog.records


async def test_a_target_that_is_no_path_is_refused(served: Served) -> None:
    for target in ("*", "http://[::1/ws", "//", "%%%"):
        peer = await served.dial()
        assert (await peer.ask(request(path=target))).status in (400, 404)
