"""One connection to one server: bytes to replies, and what is to be sent to writes. No pub/sub is here.

The client library's own reading costs a task, a lock and a stream for each reply (docs/redis.md has both
figures), and a node that hosts busy sessions gets tens of thousands a second. This one has a callback.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, cast

import hiredis

from store.delivery import SLICE_S

Take = Callable[[Any], None]

# One reply that is longer than this is none of ours: the largest frame is a hundredth of it.
REPLY_BYTES: Final = 16 * 1024 * 1024


class Link(asyncio.Protocol):
    """Calls `take` for every reply, in the order in which they came; `lost` is done when it is over.

    A reply is an int, bytes, None, a list of these, or a hiredis.ReplyError. `take` must not raise.
    """

    def __init__(self, take: Take) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.take = take
        self.waiting_bytes = 0
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._more: asyncio.Handle | None = None
        self._parts: list[bytes] = []
        self._flushing: asyncio.Handle | None = None
        self._is_full = False  # the socket takes no more
        self._is_behind = False  # and this is us

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._more is None:
            self._read()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error) if error else "Redis has closed the connection")

    # -- reading

    def _read(self) -> None:
        self._more = None
        gets, until = self._reader.gets, monotonic() + SLICE_S
        try:
            while (reply := gets()) is not False:
                self.take(reply)
                if monotonic() > until:
                    self._read_on()
                    return
        except hiredis.ProtocolError as error:
            self.abort(f"what came is not Redis's protocol: {error}")
            return
        if self._reader.len() > REPLY_BYTES:
            self.abort(f"a reply of more than {REPLY_BYTES} bytes")
        elif self._is_behind and self._transport is not None:
            self._is_behind = False
            self._transport.resume_reading()

    def _read_on(self) -> None:
        # The rest waits in the reader for the next turn, and nothing more is read from the socket until then:
        # it is Redis that holds what we cannot take.
        if self._transport is None:
            return
        self._more = self._loop.call_soon(self._read)
        if not self._is_behind:
            self._is_behind = True
            self._transport.pause_reading()

    # -- writing

    @property
    def waiting(self) -> int:
        """How many parts wait for the next write."""
        return len(self._parts)

    def send(self, *parts: bytes) -> None:
        """Write with all else that is sent in this turn of the loop, or while the socket takes no more."""
        self._parts += parts
        self.waiting_bytes += sum(map(len, parts))
        if self._flushing is None and not self._is_full:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if self._parts and not self._is_full and self._transport is not None:
            data = b"".join(self._parts)
            self._parts.clear()
            self.waiting_bytes = 0
            self._transport.write(data)

    def take_unsent(self) -> list[bytes]:
        """Hand out what was never written, after the end."""
        parts, self._parts, self.waiting_bytes = self._parts, [], 0
        return parts

    # -- the end

    def abort(self, reason: str) -> None:
        """End it now. `take` is not called any more."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    def _end(self, reason: str) -> None:
        self._transport = None
        self.take = _nothing
        for handle in (self._more, self._flushing):
            if handle is not None:
                handle.cancel()
        self._more = self._flushing = None
        if not self.lost.done():
            self.lost.set_result(reason)


def _nothing(reply: Any) -> None:
    """Who takes replies after the end."""
