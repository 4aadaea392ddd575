"""What the edge relies on in picows. When an update breaks one of these, read parser.py first."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.edge import parser
from gateway.edge.parser import Frame, Listener, Source, buffer_bytes, feed, fresh_parser, open_parser
from gateway.protocol.close import CloseCode
from tests.edge.peer import CLOSE, CONTINUATION, KEY, PING, TEXT, client_frame, closing

ROOT = Path(__file__).parents[2]


class Ear(Listener):
    """Notes what it is told."""

    def __init__(self, message_bytes: int = 1000) -> None:
        self.message_bytes = message_bytes
        self.heard: list[tuple[int, bytes, bool, int, int]] = []
        self.faults: list[CloseCode] = []
        self.connected = 0
        self.disconnected = 0
        self.flow: list[str] = []

    def on_fault(self, code: CloseCode) -> None:
        self.faults.append(code)

    def on_ws_connected(self, transport: Source) -> None:
        self.connected += 1

    def on_ws_frame(self, transport: Source, frame: Frame) -> None:
        rsv = frame.rsv1 << 2 | frame.rsv2 << 1 | frame.rsv3
        self.heard.append(
            (int(frame.msg_type.value), frame.get_payload_as_bytes(), bool(frame.fin), rsv, frame.tail_size)
        )

    def on_ws_disconnected(self, transport: Source) -> None:
        self.disconnected += 1

    def pause_writing(self) -> None:
        self.flow.append("pause")

    def resume_writing(self) -> None:
        self.flow.append("resume")


async def test_it_writes_the_101_and_nothing_else() -> None:
    ear, written = Ear(), bytearray()
    reader = open_parser(ear, KEY, "session.v1", written.extend)
    assert written.startswith(b"HTTP/1.1 101 ")
    assert written.endswith(b"\r\n\r\n")
    assert b"Sec-WebSocket-Protocol: session.v1\r\n" in written
    assert ear.connected == 1
    size = len(written)
    feed(reader, client_frame(PING, b"x") + client_frame(TEXT, b"y") + closing(1000))
    assert [heard[:2] for heard in ear.heard] == [(PING, b"x"), (TEXT, b"y"), (CLOSE, b"\x03\xe8")]
    assert len(written) == size
    assert not ear.faults


async def test_a_fresh_parser_writes_nothing() -> None:
    ear = Ear()
    reader = fresh_parser(ear)
    feed(reader, client_frame(TEXT, b"y"))
    assert [heard[:2] for heard in ear.heard] == [(TEXT, b"y")]


async def test_what_a_frame_tells_about_itself() -> None:
    ear = Ear()
    reader = fresh_parser(ear)
    feed(
        reader, client_frame(TEXT, b"a", fin=False, rsv=5) + client_frame(CONTINUATION, b"b", rsv=2) + b"\x81"
    )
    # `tail_size` counts what is in the buffer behind the frame: 0 means that the buffer holds nothing else.
    assert ear.heard == [(TEXT, b"a", False, 5, 8), (CONTINUATION, b"b", True, 2, 1)]


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (1002, client_frame(0x3)),
        (1002, client_frame(TEXT, b"x", mask=None)),
        (1002, client_frame(PING, b"x" * 126)),
        (1002, client_frame(PING, b"x", fin=False)),
        (1002, client_frame(CLOSE, b"\x03")),
        (1002, closing(1016)),
        (1007, closing(1000, b"\xff")),
        (1009, client_frame(TEXT, b"x" * 1001)),
        (1009, client_frame(TEXT, b"x" * 1001)[:4]),
    ],
)
async def test_a_fault_is_told_at_once_and_by_its_code(code: int, sent: bytes) -> None:
    ear = Ear()
    feed(fresh_parser(ear), sent)
    assert ear.faults[0] == code
    assert not ear.heard


async def test_the_frame_before_a_fault_is_delivered_after_it_is_told() -> None:
    # This is why the connection fails in the next turn only.
    ear = Ear()
    feed(fresh_parser(ear), client_frame(TEXT, b"good") + client_frame(0x3))
    assert ear.faults == [1002]
    assert [heard[1] for heard in ear.heard] == [b"good"]


async def test_its_buffer_grows_and_does_not_shrink() -> None:
    # This is why parsers are replaced after large messages.
    ear = Ear(100_000)
    reader = fresh_parser(ear)
    assert 1024 <= buffer_bytes(reader) <= 2048
    sent = client_frame(TEXT, b"x" * 50_000)
    while sent:
        sent = feed(reader, sent)
    assert len(ear.heard) == 1
    assert buffer_bytes(reader) > 50_000


async def test_it_has_no_timer_and_no_task_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    caplog.set_level(logging.DEBUG)
    tasks = asyncio.all_tasks()
    scheduled: list[object] = []
    call_later = loop.call_later

    def noted(delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        scheduled.append(callback)
        return call_later(delay, callback, *args)

    loop.call_later = noted  # type: ignore[method-assign, assignment]
    try:
        ear = Ear()
        reader = open_parser(ear, KEY, None, lambda data: None)
        feed(reader, client_frame(TEXT, b"x"))
        assert not scheduled
        # A fault costs a timer of 10 ms; nothing comes of it.
        feed(reader, client_frame(0x3))
        assert len(scheduled) <= 1
    finally:
        del loop.call_later
    assert asyncio.all_tasks() == tasks
    assert not caplog.records


async def test_flow_control_and_the_end_are_passed_on() -> None:
    ear = Ear()
    reader = fresh_parser(ear)
    assert isinstance(reader, asyncio.BufferedProtocol)
    reader.pause_writing()
    reader.resume_writing()
    assert not reader.eof_received()
    reader.connection_lost(None)
    assert ear.flow == ["pause", "resume"]
    assert ear.disconnected == 1


def test_only_the_parser_knows_picows() -> None:
    knowing = [path for path in (ROOT / "gateway").rglob("*.py") if "picows" in path.read_text()]
    assert knowing == [Path(parser.__file__)]


def test_the_edge_can_be_imported_alone() -> None:
    subprocess.run([sys.executable, "-c", "import gateway.edge.upgrade"], check=True, cwd=ROOT)
