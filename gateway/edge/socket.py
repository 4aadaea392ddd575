"""One WebSocket: frames in, messages to its handler, deadlines, and how it ends.

Keeps what RFC 6455 asks of an endpoint and the parser does not: reserved bits, fragments, UTF-8, control
frames, the close handshake. Nothing here knows what messages mean.
"""

import asyncio
import logging
import random
from math import inf
from socket import IPPROTO_TCP, SO_RCVBUF, SOL_SOCKET, TCP_NOTSENT_LOWAT
from typing import TYPE_CHECKING, Final, cast

from gateway.edge import frames
from gateway.edge.assembly import Assembly, Violation, is_utf8
from gateway.edge.discard import Discard
from gateway.edge.gathering import SELDOM_S
from gateway.edge.gone import GONE
from gateway.edge.handler import Handler
from gateway.edge.outbox import Outbox
from gateway.edge.parser import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Listener,
    Opcode,
    Reader,
    Source,
    buffer_bytes,
    feed,
    fresh_parser,
    open_parser,
)
from gateway.protocol.close import CloseCode
from gateway.protocol.limits import TokenBucket

if TYPE_CHECKING:
    from gateway.edge.edge import Edge

# Who has been silent for so long is asked for a sign of life: 6 s before the usual end of patience. That is
# later than two heartbeats, so the wheel looks at most clients after every second one: of many who are idle
# it is its looks that cost.
_ASKED_AT: Final = 0.9

# The parser starts with 2 KiB, the least it allows, doubles its buffer as it fills, and never gives anything
# back. Above this size the parser is replaced as soon as it holds no part of a frame, or each connection
# would stay as large as its largest message was.
_LARGE_BYTES: Final = 16 * 1024

# What the kernel keeps for a peer that sends faster than we read. By default it grows to megabytes, which the
# parser's buffer then grows to take in one piece. 64 KiB are 5 Mbit/s at 100 ms: more than anybody types or
# speaks.
_RECEIVE_BYTES: Final = 64 * 1024

# What the kernel takes beyond what it can send at once. By default megabytes: a copy for each slow peer, and
# a peer that reads 20 KB/s would seem to stand still for a minute. What waits here, waits as a reference to
# bytes that all share.
_UNSENT_BYTES: Final = 64 * 1024

# A ping of ours carries always the same payload: one is under way at a time, and a peer that lies about it
# only spoils the measurement of its own round trip.
_PROBE: Final = b"rtt"
_PROBE_FRAME: Final = frames.frame(frames.PING, _PROBE)

# Nobody waits for the round trip of a quiet connection, and measuring it costs as much as a heartbeat: one in
# so many is measured. Its pong is read with what others send, so it seems longer by the time that takes.
_QUIET_PINGS: Final = 4

# Two seconds' worth may come at once: pings gather while a phone is in a tunnel.
_PING_BURST_S: Final = 2

# RFC 6455 7.1.5: what is said of a connection that closed without a code, and of one that just ended.
_NO_CODE: Final = 1005
_ABNORMAL: Final = 1006

_NOBODY: Final = asyncio.Protocol()

_log = logging.getLogger(__name__)


class Socket(Listener):
    """One connection. Lives from the handshake to `on_closed`; an entry of the wheel."""

    __slots__ = (
        "_assembly", "_deadline", "_edge", "_handler", "_heard_at", "_is_deaf", "_is_large", "_mark",
        "_now", "_owed", "_ping_at", "_pinged_at", "_pings", "_plain", "_progress_at", "_spoke_at",
        "address", "code", "filed", "message_bytes", "outbox", "quiet_fd", "reader", "transport",
    )  # fmt: skip

    def __init__(self, edge: "Edge", transport: asyncio.Transport, handler: Handler, address: str) -> None:
        limits = edge.limits
        now = edge.monotonic()
        self._edge = edge
        self._now = edge.monotonic
        self.transport = transport
        self._handler = handler
        self.reader: Reader | None = None
        self._assembly: Assembly | None = None
        self._pings: TokenBucket | None = None  # made for those who send any
        self._owed: bytes | None = None  # payload of the ping to answer when the peer reads again
        self._plain = False  # open, and neither in the middle of a message nor with a large buffer
        self._is_large = False
        self._is_deaf = False  # nothing that comes is looked at any more
        self._heard_at = self._spoke_at = now  # anything; a text message
        self._ping_at = now + random.uniform(0.2, 1.0) * limits.ping_s  # noqa: S311 - spread, not a secret
        self._pinged_at = 0.0
        self._progress_at = 0.0  # since when nothing has left; while the outbox is blocked
        self._mark = (0, 0)
        self._deadline = inf  # of the close handshake
        self.code = 0  # the close code, as soon as there is one
        self.address = address
        self.message_bytes = limits.message_bytes
        self.filed = -1
        self.quiet_fd = -1
        self.outbox = Outbox(self, transport.write, edge.flusher, edge.counters, limits)

    # -- opening

    def start(self, key: str, subprotocol: str | None, tail: bytes) -> None:
        """Send the 101 and open. `tail`: what came in one piece with the request."""
        # 0: the transport shall never hold more than what the kernel did not take at once. The rest waits in
        # the outbox.
        self.transport.set_write_buffer_limits(high=0)
        kernel = self.transport.get_extra_info("socket")
        kernel.setsockopt(SOL_SOCKET, SO_RCVBUF, _RECEIVE_BYTES)
        kernel.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        # uvloop keeps the last `data_received` it has seen. A buffered protocol has none, so 4 KiB of the
        # HTTP side would stay for as long as the connection lives.
        self.transport.set_protocol(_NOBODY)
        self._read_by(open_parser(self, key, subprotocol, self.transport.write))
        self._edge.enter(self)
        self._plain = True
        try:
            self._handler.on_open(self.outbox)
        except Exception:
            self._bug()
        self._edge.wheel.add(self, self.check(self._now()))
        while tail and self.reader is not None:
            tail = feed(self.reader, tail)

    @property
    def buffer_bytes(self) -> int:
        """What the parser keeps for this connection."""
        return 0 if self.reader is None else buffer_bytes(self.reader)

    @property
    def may_be_quiet(self) -> bool:
        """Whether the loop has nothing to do with this connection but to read from it."""
        return self._plain and not self.outbox.blocked and not self.transport.is_closing()

    # -- what the parser and the transport call

    def on_ws_frame(self, transport: Source, frame: Frame) -> None:
        """Take one frame. The usual one, a whole text message, goes the short way."""
        clock = self._now
        now = self._heard_at = clock()
        try:
            if self._plain and frame.fin and frame.msg_type is TEXT:
                if frame.rsv1 or frame.rsv2 or frame.rsv3:
                    raise _reserved_bits()
                data = frame.get_payload_as_bytes()
                if not (data.isascii() or is_utf8(data)):
                    raise Violation(CloseCode.INVALID_PAYLOAD, "text is not UTF-8")
                if len(data) > _LARGE_BYTES:
                    self._shrink(frame)
                self._handler.on_text(data, now)
                before, self._spoke_at = self._spoke_at, now
                if (now - before >= SELDOM_S) is (self.quiet_fd < 0):
                    self._edge.gathering.sort(self)
            elif not self.code:
                self._take(frame, now)
            elif frame.msg_type is CLOSE:
                # RFC 6455 7.1.1: both close frames have been seen; the server closes the connection first.
                self.transport.close()
        except Violation as fault:
            self.fail(fault.code)
        except Exception:
            self._bug()

    def on_fault(self, code: CloseCode) -> None:
        """The parser can read no further. The frame before the fault may still be delivered, first."""
        self._read_by(Discard(self, self.transport))
        asyncio.get_running_loop().call_soon(self.fail, code)

    def on_ws_disconnected(self, transport: Source) -> None:
        """The transport is gone."""
        self.lost()

    def pause_writing(self) -> None:
        """The kernel takes no more for this peer."""
        self.outbox.pause()
        now = self._progress_at = self._now()
        self._edge.wheel.hasten(self, now + self._edge.limits.stall_s / 6)

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self.outbox.resume()

    # -- what the outbox calls

    def hasten(self, deadline: float) -> None:
        """See to the handler's deadlines no later than at this one."""
        if not self.code:
            self._edge.wheel.hasten(self, deadline)

    def on_lagging(self) -> None:
        """Read no more from a peer that does not read."""
        self._edge.gathering.forget(self)
        self.transport.pause_reading()

    def on_flowing(self, was_lagging: bool) -> None:
        """Everything that waited has left."""
        if self.code:
            self._half_close()
            return
        if self._owed is not None:
            payload, self._owed = self._owed, None
            self.outbox.put(frames.frame(frames.PONG, payload))
        if was_lagging:
            # Not silent: it was we who did not listen.
            self._heard_at = self._now()
            self.transport.resume_reading()
            try:
                self._handler.on_drained()
            except Exception:
                self._bug()

    def close(self, code: int, reason: str = "") -> None:
        """Send what waits, then a close frame; wait `closing_s` for the peer's."""
        if not self.code:
            self._end(code)
            self.outbox.shut(frames.close_frame(code, reason))

    def fail(self, code: CloseCode) -> None:
        """Close because of what the peer sent: nothing that it sends from now on is looked at."""
        if not self.code:
            if code is CloseCode.FLOODING:
                self._edge.counters.floods += 1
            else:
                self._edge.counters.violations += 1
            self.close(code, code.reason)
        if not self._is_deaf:
            self._is_deaf = True
            self._read_by(Discard(self, self.transport))
            self._half_close()

    # -- what the wheel calls

    def check(self, now: float) -> float:
        """See to every deadline of this connection."""
        if self.code:
            if now < self._deadline:
                return self._deadline
            if self._handler is not GONE:
                self.transport.abort()
            return inf
        try:
            due = self._handler.check(now)
        except Exception:
            self._bug()
            due = inf
        if self.code:
            return self._deadline  # the handler has closed it
        return min(due, self._check_peer(now), self._deadline)

    def _check_peer(self, now: float) -> float:
        limits = self._edge.limits
        if self.outbox.blocked:
            self._check_progress(now)
            return now + limits.stall_s / 6
        if self.buffer_bytes > _LARGE_BYTES:
            # Grown by many small frames at once; see to it at the next one.
            self._is_large, self._plain = True, False
        silent_at = self._heard_at + limits.silent_s
        asked_at = self._heard_at + _ASKED_AT * limits.silent_s
        is_asked = self._pinged_at > self._heard_at
        if now >= silent_at and is_asked:
            self._edge.counters.silents += 1
            self.close(CloseCode.SILENT, CloseCode.SILENT.reason)
        elif (now >= asked_at and not is_asked) or (now >= self._ping_at and self._is_measured):
            self._ping_at = now + limits.ping_s
            self._pinged_at = now
            self.outbox.put(_PROBE_FRAME)
        elif now >= self._ping_at:
            self._ping_at = now + limits.ping_s
        if now < asked_at:
            return min(self._ping_at, asked_at)
        # Where we come too late to ask in time, the answer is waited for: nobody is closed who was not asked.
        return silent_at if is_asked else max(silent_at, now + (1 - _ASKED_AT) * limits.silent_s)

    @property
    def _is_measured(self) -> bool:
        return self.quiet_fd < 0 or random.random() * _QUIET_PINGS < 1  # noqa: S311 - a spread, not a secret

    def _check_progress(self, now: float) -> None:
        mark = (self.outbox.resumes, self.transport.get_write_buffer_size())
        if mark != self._mark:
            self._mark = mark
            self._progress_at = now
        elif now - self._progress_at >= self._edge.limits.stall_s:
            self._edge.counters.stalls += 1
            self.close(CloseCode.SLOW_READER, CloseCode.SLOW_READER.reason)

    # -- for whatever reads at the moment

    def lost(self) -> None:
        """The transport is gone. Tell the handler, once, and let go of everything large."""
        if self._handler is GONE:
            return
        handler, self._handler = self._handler, GONE
        self._plain = False
        self.code = self.code or _ABNORMAL
        self._edge.gathering.forget(self)
        self.outbox.discard()
        self.reader = self._assembly = None
        self._edge.leave(self)
        try:
            handler.on_closed(self.code)
        except Exception:
            self._edge.counters.bugs += 1
            _log.exception("handler failed in on_closed")

    def abort(self) -> None:
        """End the connection without a word."""
        self.transport.abort()

    # -- frames that are not whole text messages, and those that come at a special moment

    def _take(self, frame: Frame, now: float) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise _reserved_bits()
        if self._is_large or frame.payload_size > _LARGE_BYTES:
            self._shrink(frame)
        kind = frame.msg_type
        if kind is PING or kind is PONG:
            self._take_control(kind, frame.get_payload_as_bytes(), now)
        elif kind is CLOSE:
            self._take_close(frame.get_payload_as_bytes())
        else:
            self._take_data(frame, now)

    def _take_data(self, frame: Frame, now: float) -> None:
        self._edge.gathering.give_back(self)  # no heartbeat
        kind, assembly, limits = frame.msg_type, self._assembly, self._edge.limits
        # RFC 6455 5.4: the fragments of one message must not be interleaved with those of another.
        if (kind is CONTINUATION) is (assembly is None):
            raise Violation(CloseCode.PROTOCOL_ERROR, "fragment out of order")
        if assembly is None:
            assembly = Assembly(kind is TEXT, limits.message_bytes, limits.fragments)
        message = assembly.add(frame.get_payload_as_bytes(), bool(frame.fin))
        self._assembly = assembly if message is None else None
        self._plain = message is not None and not self._is_large
        if message is None:
            return
        if assembly.is_text:
            self._handler.on_text(message, now)
        else:
            self._handler.on_binary(message, now)

    def _take_control(self, kind: Opcode, payload: bytes, now: float) -> None:
        if kind is PONG and self._pinged_at and payload == _PROBE:
            elapsed, self._pinged_at = now - self._pinged_at, 0.0
            self._handler.on_rtt(elapsed * 1000)
            return
        # A peer that pings and never reads would have us keep a pong for every ping.
        if self._pings is None:
            rate = self._edge.limits.pings_per_s
            self._pings = TokenBucket(rate, _PING_BURST_S * rate)
        if self._pings.take(now):
            raise Violation(CloseCode.FLOODING, "too many control frames")
        if kind is PONG:
            return
        if self.outbox.blocked:
            # RFC 6455 5.5.3: only the most recent ping need be answered.
            self._owed = payload
        else:
            self.outbox.put(frames.frame(frames.PONG, payload))

    def _take_close(self, payload: bytes) -> None:
        try:
            code = frames.close_code(payload)
        except ValueError as fault:
            raise Violation(CloseCode.PROTOCOL_ERROR, str(fault)) from fault
        # RFC 6455 5.5.1: the answer echoes the status code.
        self._end(code or _NO_CODE)
        self.outbox.shut(frames.close_frame(code))
        self.transport.close()

    # -- the parser

    def _read_by(self, reader: Reader) -> None:
        self.reader = reader
        self.transport.set_protocol(cast(asyncio.BaseProtocol, reader))

    def _shrink(self, frame: Frame) -> None:
        """Replace the parser once it holds no part of the next frame."""
        self._is_large = bool(frame.tail_size)
        if self._is_large:
            self._plain = False
        else:
            self._plain = self._assembly is None
            self._read_by(fresh_parser(self))

    # -- ending

    def _end(self, code: int) -> None:
        self.code = code
        self._plain = False
        self._assembly = self._owed = None
        self._deadline = self._now() + self._edge.limits.closing_s
        self._edge.wheel.hasten(self, self._deadline)
        self._edge.gathering.forget(self)
        # It may be paused because the peer lagged, but the peer's close frame has to be seen.
        self.transport.resume_reading()

    def _half_close(self) -> None:
        """After a failure: tell the peer by FIN that nothing follows, and let it close the connection.

        Closing it ourselves with bytes unread makes the kernel send RST, which takes our close frame away.
        """
        if not self._is_deaf or not self.outbox.is_empty or self.transport.is_closing():
            return
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        try:
            self.transport.write_eof()
        except OSError:
            # The peer has reset the connection; the transport has not noticed yet.
            self.transport.abort()

    def _bug(self) -> None:
        self._edge.counters.bugs += 1
        _log.exception("handler failed")
        self.close(CloseCode.INTERNAL_ERROR, CloseCode.INTERNAL_ERROR.reason)


def _reserved_bits() -> Violation:
    # RFC 6455 5.2: RSV1-3 must be 0 unless an extension is negotiated, and none is.
    return Violation(CloseCode.PROTOCOL_ERROR, "reserved bits are set")
