"""Puts the messages of one session back into order. Pure.

Hints go in, an unbroken run of frames comes out.
"""

from collections import deque
from itertools import islice
from typing import Final

# A tail serves small resumes and slow moments without the log. 256 frames of a chat are some 80 KB;
# the bytes bound is what counts for large ones.
TAIL_FRAMES: Final = 256
TAIL_BYTES: Final = 256 * 1024
# Hints that wait for a hole. More than this is not disorder any more but loss: then the log is read.
PENDING_FRAMES: Final = 256
PENDING_BYTES: Final = 1024 * 1024


class Relay:
    """The head of one session as this node knows it, its last frames, and what waits for a hole to be filled.

    `head` is the last seq that came in order; the tail holds the frames of an unbroken run of seqs that
    ends at `head`.
    """

    __slots__ = ("_pending", "_pending_bytes", "_tail", "_tail_bytes", "head", "known")

    def __init__(self, head: int) -> None:
        self.head = head
        self.known = head  # the highest seq heard of, in order or not
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._pending: dict[int, bytes] = {}
        self._pending_bytes = 0

    @property
    def has_hole(self) -> bool:
        """Whether seqs between `head` and a later one are missing."""
        return self.known > self.head

    def offer(self, seq: int, frame: bytes) -> list[tuple[int, bytes]]:
        """Take a message from anywhere; return what is now due, ascending. Repeats are dropped."""
        if seq <= self.head:
            return []
        if seq > self.known:
            self.known = seq
        if seq != self.head + 1:
            self._hold(seq, frame)
            return []
        due = [(seq, frame)]
        self._advance(frame)
        while self._pending and (following := self._pending.pop(self.head + 1, None)) is not None:
            self._pending_bytes -= len(following)
            self._advance(following)
            due.append((self.head, following))
        return due

    def heard(self, head: int) -> bool:
        """Note that the log's head is at least `head`; whether that shows a hole."""
        if head > self.known:
            self.known = head
        return self.has_hole

    def jump(self) -> int:
        """Give up the hole: go to the highest seq known and forget the tail.

        The readers go to the log each by itself.
        """
        self.head = self.known
        self.forget()
        return self.head

    def forget(self) -> None:
        """Let go of all frames: whoever wants them asks the log."""
        self._tail.clear()
        self._pending.clear()
        self._tail_bytes = self._pending_bytes = 0

    def tail_after(self, seq: int, limit: int) -> list[tuple[int, bytes]] | None:
        """Up to `limit` frames behind `seq`, or None where the tail does not reach back that far."""
        first = self.head - len(self._tail) + 1
        start = seq + 1 - first
        if start < 0:
            return None
        return list(enumerate(islice(self._tail, start, start + limit), seq + 1))

    def _advance(self, frame: bytes) -> None:
        self.head += 1
        self._tail.append(frame)
        self._tail_bytes += len(frame)
        while len(self._tail) > TAIL_FRAMES or self._tail_bytes > TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())

    def _hold(self, seq: int, frame: bytes) -> None:
        if seq in self._pending:
            return
        if len(self._pending) >= PENDING_FRAMES or self._pending_bytes + len(frame) > PENDING_BYTES:
            return  # `known` remembers that there is more; the log has it
        self._pending[seq] = frame
        self._pending_bytes += len(frame)
