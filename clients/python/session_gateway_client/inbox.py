"""Messages between the socket and the reader of one session: once, in order, bounded. No I/O, no clock."""

from collections import deque
from enum import Enum, auto

from session_gateway_client.values import Message


class Judgement(Enum):
    """What a seq means to a reader that has everything up to its cursor."""

    NEXT = auto()
    KNOWN = auto()
    BEYOND = auto()


class Inbox:
    """A queue with two cursors: `cursor` is the last seq accepted, `taken` the last one handed to the reader.

    Bound: `max_messages`, or `max_bytes` and one message (the one that crosses the line is still taken in).
    What to do at the bound is decided by who holds the socket: stop reading it, or let the inbox lag.

    Lagging: messages were dropped at the bound. Nothing is accepted any more until the reader has taken half
    of what is here; then the session is attached again from `cursor`, and the gateway reads the rest from its
    log.
    """

    def __init__(self, *, max_messages: int, max_bytes: int, cursor: int) -> None:
        self._queue: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self.cursor = cursor
        self.taken = cursor
        self.is_lagging = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= self._max_messages or self._bytes >= self._max_bytes

    @property
    def is_low(self) -> bool:
        """Whether at least half of it is free: the point to catch up from."""
        return len(self._queue) * 2 <= self._max_messages and self._bytes * 2 <= self._max_bytes

    def judge(self, seq: int) -> Judgement:
        """Say what this seq is. A message may be accepted only when it is NEXT."""
        if seq <= self.cursor:
            return Judgement.KNOWN
        return Judgement.NEXT if seq == self.cursor + 1 else Judgement.BEYOND

    def accept(self, message: Message, size: int) -> None:
        """Take in the next message."""
        if self.judge(message.seq) is not Judgement.NEXT:
            raise ValueError(f"seq {message.seq} does not follow {self.cursor}")
        self.cursor = message.seq
        self._queue.append((message, size))
        self._bytes += size

    def take(self) -> Message | None:
        """Hand out the oldest message; None when there is none."""
        if not self._queue:
            return None
        message, size = self._queue.popleft()
        self._bytes -= size
        self.taken = message.seq
        return message
