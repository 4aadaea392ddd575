"""How connections end: by either side, with and without a word, and by bugs of ours."""

import asyncio
import contextlib
import logging
import os
import signal
import sys

import pytest

from gateway.edge.frames import TEXT as TEXT_OPCODE
from gateway.edge.frames import frame
from tests.edge.peer import BINARY, CLOSE, CONTINUATION, PING, TEXT, Peer, client_frame, closing
from tests.edge.serving import Served, Start
from tests.waiting import turns, until


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1014, 3000, 3999, 4000, 4999]
)
@pytest.mark.parametrize("reason", [b"", b"bye", "bis später".encode(), b"*" * 123])
async def test_a_close_is_echoed(served: Served, code: int, reason: bytes) -> None:
    peer, handler = await served.pair()
    peer.send(closing(code, reason))
    assert await peer.closed_with() == code
    await until(lambda: handler.closed == [code])


async def test_a_close_without_a_code_is_answered_by_one(served: Served) -> None:
    peer, handler = await served.pair()
    peer.send(client_frame(CLOSE))
    assert await peer.frame() == (CLOSE, b"")
    await peer.ended()
    await until(lambda: handler.closed == [1005])


async def test_nothing_counts_after_the_peers_close(served: Served) -> None:
    peer, handler = await served.pair()
    peer.send(client_frame(TEXT, b"before"), closing(1000), client_frame(TEXT, b"after"), client_frame(PING))
    assert await peer.frame() == (TEXT, b"before")
    assert await peer.closed_with() == 1000
    assert handler.texts == [b"before"]


async def test_what_was_put_before_our_close_is_sent_before_it(served: Served) -> None:
    peer, handler = await served.pair()
    handler.outlet.put(frame(TEXT_OPCODE, b"first"))
    assert handler.outlet.put_message(frame(TEXT_OPCODE, b"second"))
    handler.outlet.close(4502, "superseded")
    handler.outlet.close(4000, "the first code stands")
    handler.outlet.put(frame(TEXT_OPCODE, b"late"))
    assert handler.outlet.put_message(frame(TEXT_OPCODE, b"late"))
    assert not handler.outlet.put_ephemeral(frame(TEXT_OPCODE, b"late"))
    assert await peer.frame() == (TEXT, b"first")
    assert await peer.frame() == (TEXT, b"second")
    assert await peer.frame() == (CLOSE, (4502).to_bytes(2) + b"superseded")
    # The peer has not answered yet: the connection is still there, but nothing is taken from it.
    peer.send(client_frame(TEXT, b"ignored"), client_frame(PING, b"ignored"))
    peer.send(closing(4502))
    await peer.ended()
    await until(lambda: handler.closed == [4502])
    assert not handler.texts


async def test_a_long_reason_is_cut_between_characters(served: Served) -> None:
    peer, handler = await served.pair()
    handler.outlet.close(4503, "€" * 100)
    assert await peer.frame() == (CLOSE, (4503).to_bytes(2) + "€".encode() * 41)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_peer_that_does_not_answer_our_close_is_cut_off(served: Served, reads: bool) -> None:
    peer, handler = await served.pair()
    handler.outlet.close(4000)
    if reads:
        assert (await peer.frame())[0] == CLOSE
    served.pass_time(0.5)
    assert not handler.closed
    served.pass_time(1.0)
    await until(lambda: handler.closed == [4000])
    assert served.edge.counters.connections == 0


async def test_a_peer_that_pours_on_after_our_close_is_cut_off(served: Served) -> None:
    peer, handler = await served.pair()
    handler.outlet.close(4000)
    peer.send(client_frame(BINARY, b"x" * 200_000) * 10)
    served.pass_time(1.5)
    await until(lambda: handler.closed == [4000])
    assert not handler.binaries


async def test_a_peer_that_pours_on_after_a_fault_is_cut_off(served: Served) -> None:
    peer, handler = await served.pair()
    peer.send(client_frame(0x3))
    await peer.pour(b"x" * 1_000_000, until=lambda: bool(handler.closed))
    assert handler.closed == [1002]
    assert not served.edge.counters.connections


async def test_a_fault_after_our_close_does_not_change_its_code(served: Served) -> None:
    peer, handler = await served.pair()
    handler.outlet.close(4000)
    peer.send(client_frame(0x3))
    assert await peer.closed_with() == 4000
    await peer.leave()
    await until(lambda: handler.closed == [4000])
    assert served.edge.counters.violations == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x81",
        client_frame(TEXT, b"x" * 1000)[:500],
        client_frame(TEXT, b"x", fin=False),
        client_frame(TEXT, b"x", fin=False) + client_frame(CONTINUATION, b"y" * 100)[:10],
    ],
)
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_connection_may_break_at_any_moment(served: Served, sent: bytes, how: str) -> None:
    peer, handler = await served.pair()
    peer.send(sent)
    await served.settle()
    if how == "fin":
        peer.half_close()
    else:
        peer.reset()
    await until(lambda: handler.closed == [1006])
    assert served.edge.counters.connections == 0
    assert not handler.texts
    handler.outlet.put(frame(TEXT_OPCODE, b"nobody there"))
    assert handler.outlet.put_message(frame(TEXT_OPCODE, b"nobody there"))
    handler.outlet.close(1000)
    assert handler.closed == [1006]


async def test_a_reset_while_we_write_is_an_end_like_any_other(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    peer, handler = await served.pair()
    peer.reset()
    for _ in range(100):
        handler.outlet.put(frame(TEXT_OPCODE, b"x" * 1000))
        await turns()
    await until(lambda: handler.closed == [1006])
    assert not caplog.records


async def test_a_bug_closes_with_1011_and_is_logged_once(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(data: bytes) -> None:
        raise ZeroDivisionError("secret")

    peer, handler = await served.pair()
    handler.act = fail
    peer.send(client_frame(TEXT, b"1"), client_frame(TEXT, b"2"))
    opcode, payload = await peer.frame()
    assert opcode == CLOSE
    assert payload[:2] == (1011).to_bytes(2)
    assert b"secret" not in payload
    peer.send(closing(1011))
    await until(lambda: handler.closed == [1011])
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert served.edge.counters.bugs == 1


@pytest.mark.parametrize("method", ["on_open", "check", "on_rtt", "on_drained"])
async def test_a_bug_anywhere_closes_with_1011(
    served: Served, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> float:
        raise ZeroDivisionError

    record = served.answer

    def broken(request: object) -> object:
        handler = record(request)  # type: ignore[arg-type]
        setattr(handler, method, fail)
        return handler

    served.answer = broken  # type: ignore[assignment]
    peer, handler = await served.pair(4096)
    if method == "on_rtt":
        served.pass_time(54.5)
        assert await peer.frame() == (PING, b"rtt")
        peer.send(client_frame(0xA, b"rtt"))
    elif method == "on_drained":
        await until(lambda: not handler.outlet.put_message(frame(TEXT_OPCODE, b"x" * 500_000)))
    assert await peer.closed_with(answer=True) == 1011
    await until(lambda: handler.closed == [1011])
    assert len(caplog.records) == 1


async def test_a_bug_in_the_last_call_harms_nobody(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    peer, handler = await served.pair()

    def fail(code: int) -> None:
        raise ZeroDivisionError

    handler.on_closed = fail  # type: ignore[method-assign]
    await peer.leave()
    await until(lambda: served.edge.counters.bugs == 1)
    assert served.edge.counters.connections == 0
    assert len(caplog.records) == 1


async def test_stopping_closes_everybody_with_1001_and_waits_for_those_who_answer(serve: Start) -> None:
    served = await serve()
    peers = [await served.connect() for _ in range(3)]
    stopping = asyncio.create_task(served.edge.stop())
    for peer in peers[:2]:
        assert (await peer.frame())[0] == CLOSE
        peer.send(closing(1001))
        await peer.ended()
    await stopping
    assert [handler.closed for handler in served.handlers] == [[1001]] * 3


async def test_the_echo_server_ends_in_time_with_connections_open() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtest.echo", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        peer = await Peer.connect(int(url.rpartition(":")[2].partition("/")[0]))
        await peer.upgrade()
        peer.send(client_frame(TEXT, b"hello"))
        assert await peer.frame() == (TEXT, b"hello")
        process.send_signal(signal.SIGTERM)
        assert await peer.closed_with(answer=True) == 1001
        assert await asyncio.wait_for(process.wait(), 10) == 0
        await peer.leave()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
