"""The outbox by itself: order, bounds, one write per turn; the transport does as it is told."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.edge.counters import Counters
from gateway.edge.handler import EdgeLimits
from gateway.edge.outbox import Flusher, Outbox
from tests.waiting import turns

FRAMES, BYTES = 8, 200_000


class Transport:
    """Takes bytes; the kernel behind it takes as many as it is told."""

    def __init__(self) -> None:
        self.outbox: Outbox
        self.room = 0
        self.sent = b""
        self.held = b""
        self.writes = 0

    def write(self, data: bytes) -> None:
        assert not self.held, "written while it holds something"
        assert data
        self.writes += 1
        self._send(data)
        if self.held:
            self.outbox.pause()

    def drain(self, room: int) -> None:
        """The peer reads."""
        self.room += room
        if self.held:
            held, self.held = self.held, b""
            self._send(held)
            if not self.held:
                self.outbox.resume()

    def _send(self, data: bytes) -> None:
        self.sent += data[: self.room]
        self.held = data[self.room :]
        self.room -= min(self.room, len(data))


class Owner:
    def __init__(self) -> None:
        self.reading = True
        self.drained = 0
        self.closed: list[int] = []

    def on_lagging(self) -> None:
        assert self.reading
        self.reading = False

    def on_flowing(self, was_lagging: bool) -> None:
        if was_lagging:
            assert not self.reading
            self.reading = True
            self.drained += 1

    def hasten(self, deadline: float) -> None:
        raise AssertionError("an outbox has no deadlines of its own")

    def close(self, code: int, reason: str) -> None:
        self.closed.append(code)


class Turns(Flusher):
    """A flusher whose turns a test takes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduled = 0

    def schedule(self) -> None:
        self.scheduled += 1


def _make(flusher: Flusher | None = None) -> tuple[Outbox, Transport, Owner, Counters]:
    transport, owner, counters = Transport(), Owner(), Counters()
    limits = EdgeLimits(outbox_frames=FRAMES, outbox_bytes=BYTES)
    transport.outbox = Outbox(owner, transport.write, flusher or Turns(), counters, limits)
    return transport.outbox, transport, owner, counters


class Model(RuleBasedStateMachine):
    """However it is put and read: what was taken arrives once, in order, and nothing else does."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns()
        self.outbox, self.transport, self.owner, self.counters = _make(self.turns)
        self.expected = b""
        self.number = 0
        self.dropped = 0
        self.replies = 0

    def _next(self, size: int) -> bytes:
        self.number += 1
        return self.number.to_bytes(4) + b"x" * size

    @rule(size=st.integers(0, 150_000))
    def message(self, size: int) -> None:
        was_lagging = self.outbox.lagging
        frame = self._next(size)
        if self.outbox.put_message(frame):
            assert not was_lagging
            self.expected += frame
        else:
            assert self.outbox.lagging

    @rule(size=st.integers(0, 2_000))
    def reply(self, size: int) -> None:
        frame = self._next(size)
        self.outbox.put(frame)
        self.expected += frame
        self.replies += self.outbox.blocked

    @rule(size=st.integers(0, 2_000))
    def ephemeral(self, size: int) -> None:
        frame = self._next(size)
        if self.outbox.put_ephemeral(frame):
            self.expected += frame
        else:
            assert self.outbox.blocked
            self.dropped += 1

    @rule()
    def turn(self) -> None:
        before = self.transport.writes
        small = self.outbox.waiting_bytes <= 65_536
        self.turns.flush()
        if small:
            assert self.transport.writes <= before + 1

    @rule(room=st.integers(1, 300_000))
    def read(self, room: int) -> None:
        self.transport.drain(room)

    @invariant()
    def holds(self) -> None:
        assert self.expected.startswith(self.transport.sent + self.transport.held)
        assert self.owner.reading is not self.outbox.lagging
        assert self.counters.dropped_ephemerals == self.dropped
        assert self.outbox.waiting_bytes <= BYTES + self.replies * 2_100
        if self.outbox.blocked:
            assert self.transport.held
            # Replies alone may exceed the bound.
            assert self.outbox.waiting_frames <= FRAMES + self.replies
        else:
            assert not self.outbox.lagging

    def teardown(self) -> None:
        self.turns.flush()
        self.transport.drain(100_000_000)
        self.turns.flush()
        assert self.transport.sent == self.expected
        assert not self.outbox.lagging


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=40)


def test_all_frames_of_a_turn_leave_in_one_write() -> None:
    flusher = Turns()
    outbox, transport, _, _ = _make(flusher)
    transport.room = 1_000_000
    for n in range(50):
        outbox.put_message(b"%d," % n)
    assert transport.writes == 0
    assert flusher.scheduled == 1
    flusher.flush()
    assert transport.writes == 1
    assert transport.sent == b"".join(b"%d," % n for n in range(50))


def test_a_single_frame_is_written_without_a_copy() -> None:
    written: list[bytes] = []
    outbox = Outbox(Owner(), written.append, Turns(), Counters(), EdgeLimits())
    frame = b"the frame that all share"
    outbox.put_message(frame)
    outbox.flush()
    assert written[0] is frame


def test_many_outboxes_need_one_call_of_the_loop() -> None:
    flusher = Turns()
    made = [_make(flusher) for _ in range(100)]
    for outbox, transport, _, _ in made:
        transport.room = 1000
        outbox.put(b"x")
        outbox.put(b"y")
    assert flusher.scheduled == 1
    flusher.flush()
    assert [transport.sent for _, transport, _, _ in made] == [b"xy"] * 100


def test_a_transport_that_fails_keeps_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    flusher = Turns()

    def fail(data: bytes) -> None:
        raise RuntimeError("broken")

    broken = Outbox(Owner(), fail, flusher, Counters(), EdgeLimits())
    outbox, transport, _, _ = _make(flusher)
    transport.room = 10
    broken.put(b"x")
    outbox.put(b"y")
    flusher.flush()
    assert transport.sent == b"y"
    assert len(caplog.records) == 1


def test_the_close_frame_is_the_last() -> None:
    outbox, transport, _, _ = _make()
    transport.room = 5
    outbox.put(b"hello world")
    outbox.flush()
    outbox.put_message(b"waits")
    outbox.shut(b"close")
    outbox.shut(b"again")
    outbox.put(b"late")
    assert outbox.put_message(b"late")
    assert not outbox.put_ephemeral(b"late")
    transport.drain(1000)
    assert transport.sent == b"hello worldwaitsclose"
    assert outbox.is_empty


async def test_the_loop_flushes_in_the_next_turn() -> None:
    flusher = Flusher()
    outbox, transport, _, _ = _make(flusher)
    transport.room = 100
    outbox.put(b"x")
    assert transport.sent == b""
    await turns(2)
    assert transport.sent == b"x"
