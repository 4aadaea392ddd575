"""The merge of history with live messages for one attachment: each seq after the cursor once, in order."""

from collections.abc import Sequence


class Replay:
    """One reader's position: live while its cursor is at the highest seq known, and replaying until it is.

    There is no other state. A live message is delivered exactly when it is the next one of a live reader; any
    other only raises the head, and comes with the pages that the reader then wants.
    """

    __slots__ = ("_head", "_is_reading", "cursor")

    def __init__(self, cursor: int, head: int) -> None:
        self.cursor = cursor
        self._head = head  # may be below the cursor: `live` has no time to keep it up
        self._is_reading = False

    @property
    def head(self) -> int:
        """The highest seq known."""
        return max(self._head, self.cursor)

    @property
    def is_live(self) -> bool:
        """Whether nothing is known that the reader lacks."""
        return self.cursor >= self._head

    def live(self, seq: int) -> bool:
        """Take a live message; True: deliver it now. The hot path, once per delivery."""
        if seq == self.cursor + 1 and self.cursor >= self._head:
            self.cursor = seq
            return True
        if seq > self._head:
            self._head = seq
        return False

    def refused(self, seq: int) -> None:
        """Take back the delivery of `seq` and all after it: the reader lags and will get them from a page."""
        if seq <= self.cursor:
            self._head = self.head
            self.cursor = seq - 1

    def behind(self, head: int) -> None:
        """Learn that the session has `head` messages, whether their hints came or not."""
        if head > self._head:
            self._head = head

    def want(self, limit: int) -> tuple[int, int] | None:
        """Ask for the next page as (after, limit); None while live, or while a page is under way."""
        if self._is_reading or self.is_live:
            return None
        self._is_reading = True
        return self.cursor, limit

    def page(self, seqs: Sequence[int]) -> slice:
        """Take the page that was wanted, ascending; returns the part of it to deliver.

        What the reader has already is passed over; what follows a hole is left for the next page.
        """
        self._is_reading = False
        start = 0
        while start < len(seqs) and seqs[start] <= self.cursor:
            start += 1
        stop = start
        while stop < len(seqs) and seqs[stop] == self.cursor + 1:
            self.cursor = seqs[stop]
            stop += 1
        return slice(start, stop)

    def failed(self) -> None:
        """The page could not be read, or did not show what is known to exist: it will be wanted again."""
        self._is_reading = False
