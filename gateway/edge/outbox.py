"""The way out of one connection, and the one write per socket and loop turn. Knows nothing of WebSockets.

Frames wait here, as references to bytes that all sockets share, and not in the transport: its high-water mark
is 0, so it holds at most the piece that the kernel did not take at once.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol, cast

from gateway.edge.counters import Counters
from gateway.edge.handler import EdgeLimits
from gateway.protocol.close import CloseCode

# One write: large enough that a system call costs little per frame, small enough that what one socket has in
# the transport and in the copy made for it stays small beside the bound of 1 MiB.
_WRITE_BYTES: Final = 64 * 1024

# Replies go on for what was asked before reading stopped, and what others do in a session is told. Should
# that come to several times the bound, the peer is not worth its memory: it resumes when it reads again.
_HARD: Final = 4

Write = Callable[[bytes], None]

_log = logging.getLogger(__name__)


def _nowhere(data: bytes) -> None:
    """Stands for the transport of a connection that is gone, so that the transport can be freed."""


def _unwatched() -> None:
    """Stands for the watch of an edge that has none."""


class Owner(Protocol):
    """Whose outbox it is: told when the peer stops and goes on reading."""

    def on_lagging(self) -> None:
        """The bound is reached: stop reading from the peer."""

    def on_flowing(self, was_lagging: bool) -> None:
        """Everything that waited is gone."""

    def hasten(self, deadline: float) -> None:
        """Have the handler's `check` called no later than then."""

    def close(self, code: int, reason: str) -> None:
        """End the connection."""


class Flusher:
    """Writes out, once per turn of the loop, every outbox that something was put into."""

    def __init__(self) -> None:
        # One list for ever, so that outboxes can hold it and file themselves without a call.
        self.dirty: list[Outbox] = []
        self.frames = 0  # given to the transports, ever
        # Called before anything of a turn leaves: a node that has not run for long closes all its sockets.
        self.watch: Callable[[], None] = _unwatched
        self._call_soon: Callable[[Callable[[], None]], object] | None = None

    def schedule(self) -> None:
        """Have `flush` called in the next turn. For whoever puts the first outbox into `dirty`."""
        if self._call_soon is None:
            self._call_soon = asyncio.get_running_loop().call_soon
        self._call_soon(self.flush)

    def flush(self) -> None:
        """Write what has gathered."""
        self.watch()
        batch = self.dirty[:]
        self.dirty.clear()
        singles = 0
        for outbox in batch:
            try:
                waiting = outbox._waiting
                if type(waiting) is bytes and not outbox.blocked:
                    outbox._waiting = None
                    # Fetched first: `outbox._write(…)` in one is looked up as a method, which takes longer.
                    write = outbox._write
                    write(waiting)
                    singles += 1
                else:
                    outbox.flush()
            except Exception:
                # One broken transport must not keep the others waiting.
                _log.exception("write failed")
        self.frames += singles


class Outbox:
    """Implements `gateway.fanout.outlet.Outlet` for one socket.

    Bound: while the peer does not read, 256 frames or 1 MiB (settings) wait; then messages are refused, and
    nothing is read from the peer so that it causes no more replies. What waits still leaves, in order.
    """

    __slots__ = (
        "_bytes",
        "_counters",
        "_dirty",
        "_flusher",
        "_max_bytes",
        "_max_frames",
        "_owner",
        "_stopped",
        "_waiting",
        "_write",
        "blocked",
        "closed",
        "lagging",
        "resumes",
    )

    def __init__(
        self, owner: Owner, write: Write, flusher: Flusher, counters: Counters, limits: EdgeLimits
    ) -> None:
        self._owner = owner
        self._write = write
        self._flusher = flusher
        self._dirty = flusher.dirty
        self._counters = counters
        self._max_frames = limits.outbox_frames
        self._max_bytes = limits.outbox_bytes
        self._waiting: bytes | list[bytes] | None = None
        self._bytes = 0  # of the list
        self._stopped = False  # blocked or closed: the two reasons for leaving the short way
        self.blocked = False  # the transport holds what the kernel did not take
        self.closed = False
        self.lagging = False
        self.resumes = 0

    @property
    def waiting_frames(self) -> int:
        """Frames not yet handed to the transport."""
        waiting = self._waiting
        return len(waiting) if type(waiting) is list else int(waiting is not None)

    @property
    def waiting_bytes(self) -> int:
        """Their bytes."""
        waiting = self._waiting
        return self._bytes if type(waiting) is list else len(waiting or b"")

    @property
    def is_empty(self) -> bool:
        """Whether everything has been handed to the transport."""
        return self._waiting is None

    # `put` and `put_message` are the hottest lines of a node, 10^5 calls a second, and differ only in what
    # happens at the bound: they repeat each other so that neither pays for a call. One frame a turn is the
    # usual case, and each list would be two cache lines more to fetch for it.

    def put(self, frame: bytes) -> None:
        """Send a reply or control frame. At the bound it is taken nevertheless, but nothing more is read."""
        if self._stopped:
            if not self.closed:
                self._put_stopped(frame)
            return
        waiting = self._waiting
        if waiting is None:
            self._waiting = frame
            dirty = self._dirty
            if not dirty:
                self._flusher.schedule()
            dirty.append(self)
        elif type(waiting) is list and self._bytes < _WRITE_BYTES:
            waiting.append(frame)
            self._bytes += len(frame)
        elif self._gather(frame) > _WRITE_BYTES:
            self.flush()

    def put_message(self, frame: bytes) -> bool:
        """Send a frame that can be had again from the log. False: refused."""
        if self._stopped:
            if self.closed:
                return True
            if self.lagging:
                return False
            if self._is_full() or self.waiting_bytes + len(frame) > self._max_bytes:
                self._lag()
                return False
            self._gather(frame)
            return True
        waiting = self._waiting
        if waiting is None:
            self._waiting = frame
            dirty = self._dirty
            if not dirty:
                self._flusher.schedule()
            dirty.append(self)
        elif type(waiting) is list and self._bytes < _WRITE_BYTES:
            waiting.append(frame)
            self._bytes += len(frame)
        elif self._gather(frame) > _WRITE_BYTES:
            self.flush()
        return True

    def put_ephemeral(self, frame: bytes) -> bool:
        """Send a frame that nobody misses. False: dropped."""
        if self._stopped:
            self._counters.dropped_ephemerals += not self.closed
            return False
        self.put(frame)
        return True

    def hasten(self, deadline: float) -> None:
        """Have the handler see to a deadline that has moved nearer."""
        self._owner.hasten(deadline)

    def close(self, code: int, reason: str = "") -> None:
        """End the connection after what waits has been sent."""
        self._owner.close(code, reason)

    # -- for the socket

    def shut(self, last: bytes) -> None:
        """Put the close frame, the last frame of all, and write if that is possible."""
        if self.closed:
            return
        # RFC 6455 5.5.1: after a close frame, no more data frames.
        self.closed = self._stopped = True
        self._gather(last)
        self.flush()

    def drop(self) -> None:
        """Take back what waits: it was to be said by a node that is none any more. The peer resumes."""
        self._waiting = None
        self._bytes = 0

    def discard(self) -> None:
        """The connection is gone: let go of everything."""
        self.closed = self._stopped = True
        self._waiting = None
        self._write = _nowhere

    def pause(self) -> None:
        """The transport says that the kernel takes no more."""
        self.blocked = self._stopped = True

    def resume(self) -> None:
        """The transport has got rid of everything it held."""
        self.resumes += 1
        self.blocked = False
        self._stopped = self.closed
        self.flush()
        if not self.blocked:
            was_lagging, self.lagging = self.lagging, False
            self._owner.on_flowing(was_lagging)

    def flush(self) -> None:
        """Write what waits, as far as the peer takes it."""
        waiting = self._waiting
        if self.blocked or waiting is None:
            return
        # Before the write, which may call `pause`.
        self._waiting = None
        if type(waiting) is bytes:
            self._flusher.frames += 1
            self._write(waiting)
        elif self._bytes <= _WRITE_BYTES:
            self._flusher.frames += len(waiting)
            self._write(b"".join(cast(list[bytes], waiting)))
        else:
            self._flush_in_pieces(cast(list[bytes], waiting))

    def _flush_in_pieces(self, frames: list[bytes]) -> None:
        start = 0
        while start < len(frames) and not self.blocked:
            end, size = start, 0
            while end < len(frames) and size < _WRITE_BYTES:
                size += len(frames[end])
                end += 1
            piece = frames[start] if end == start + 1 else b"".join(frames[start:end])
            self._flusher.frames += end - start
            start = end
            self._bytes -= size
            self._write(piece)
        if start < len(frames):
            del frames[:start]
            self._waiting = frames

    def _gather(self, frame: bytes) -> int:
        """Let a frame wait with others; return their bytes."""
        waiting = self._waiting
        if type(waiting) is list:
            waiting.append(frame)
            self._bytes += len(frame)
        elif waiting is None:
            self._waiting = [frame]
            self._bytes = len(frame)
        else:
            self._waiting = [cast(bytes, waiting), frame]
            self._bytes = len(waiting) + len(frame)
        return self._bytes

    def _put_stopped(self, frame: bytes) -> None:
        self._gather(frame)
        if not self.lagging:
            if self._is_full():
                self._lag()
        elif self.waiting_frames > _HARD * self._max_frames or self.waiting_bytes > _HARD * self._max_bytes:
            self._counters.stalls += 1
            self._owner.close(CloseCode.SLOW_READER, CloseCode.SLOW_READER.reason)

    def _is_full(self) -> bool:
        return self.waiting_frames >= self._max_frames or self.waiting_bytes >= self._max_bytes

    def _lag(self) -> None:
        self.lagging = True
        self._counters.lags += 1
        self._owner.on_lagging()
