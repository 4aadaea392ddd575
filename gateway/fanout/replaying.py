"""Brings an attachment what it lacks.

From the room's tail, else page by page from the log, at its reader's pace.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import structlog

from gateway.fanout.room import Attachment
from gateway.protocol import replies
from store.errors import Unavailable
from store.log import Log

# Pages grow and shrink with the size of the messages: neither a crowd of round trips nor megabytes. The
# worst case,
# small messages followed by the largest, is 4 MiB for each of the pages read at one time.
FIRST_PAGE: Final = 16
LARGEST_PAGE: Final = 64
PAGE_BYTES: Final = 128 * 1024
# Pages read at one time by the whole node: a storm of resumes must not hold a page for each of its clients.
READS_AT_ONCE: Final = 16
RETRY_FIRST_S: Final = 0.1
RETRY_LAST_S: Final = 2.0

_logger = structlog.get_logger("gateway.fanout")


class Replayer:
    """Drives `Replay`s. At most one replay is at work for an attachment.

    It ends when the attachment is live, lags or is gone.
    """

    def __init__(self, log: Log, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._log = log
        self._spawn = spawn
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    def pump(self, attachment: Attachment) -> None:
        """Go on with an attachment; returns at once. Does nothing while its reader lags.

        `on_drained` brings it back here.
        """
        if attachment.is_pumped or attachment.outlet.lagging:
            return
        attachment.is_pumped = True
        if self._from_tail(attachment):
            attachment.is_pumped = False
        else:
            self._spawn(self._from_log(attachment))

    def _from_tail(self, attachment: Attachment) -> bool:
        """Replay without waiting; False where the log is needed."""
        relay = attachment.room.relay
        while not attachment.outlet.lagging:
            want = attachment.replay.want(LARGEST_PAGE)
            if want is None:
                self._arrived(attachment)
                return True
            frames = relay.tail_after(*want)
            if not frames:
                attachment.replay.failed()
                return False
            self._give(attachment, frames)
        return True

    async def _from_log(self, attachment: Attachment) -> None:
        page = FIRST_PAGE
        retry = RETRY_FIRST_S
        try:
            while self._goes_on(attachment):
                want = attachment.replay.want(page)
                if want is None:
                    self._arrived(attachment)
                    break
                if frames := attachment.room.relay.tail_after(*want):
                    # The log has brought the reader to where the tail begins.
                    self._give(attachment, frames)
                    continue
                try:
                    async with self._reads:
                        messages = await self._log.read(attachment.room.id, after=want[0], limit=want[1])
                except Unavailable:
                    messages = []
                if not messages:
                    # The log is away, or does not show yet what a hint has told of.
                    attachment.replay.failed()
                    await asyncio.sleep(retry)
                    retry = min(RETRY_LAST_S, retry * 2)
                    continue
                retry = RETRY_FIRST_S
                # Its hint may be late or lost, but who is given a message may say that they have it.
                attachment.room.relay.heard(messages[-1].seq)
                if not self._goes_on(attachment):
                    attachment.replay.failed()
                    break
                frames = [(message.seq, replies.message(message)) for message in messages]
                self._give(attachment, frames)
                page = _next_page(page, frames)
        finally:
            # A page that a bug or a stop has cut short is no page under way: it is wanted again.
            attachment.replay.failed()
            attachment.is_pumped = False
        # Its drain may have been announced while we were still at work, and passed over.
        if self._goes_on(attachment) and not attachment.replay.is_live:
            self.pump(attachment)

    @staticmethod
    def _goes_on(attachment: Attachment) -> bool:
        is_attached = attachment.room.attachments.get(attachment.reader.id) is attachment
        return is_attached and not attachment.outlet.lagging

    @staticmethod
    def _give(attachment: Attachment, frames: Sequence[tuple[int, bytes]]) -> None:
        due = attachment.replay.page([seq for seq, _ in frames])
        room = attachment.room
        for seq, frame in frames[due]:
            if not attachment.outlet.put_message(frame):
                attachment.replay.refused(seq)
                return
            room.count_out(1, len(frame))

    @staticmethod
    def _arrived(attachment: Attachment) -> None:
        if not attachment.is_announced:
            attachment.is_announced = True
            attachment.outlet.put(replies.live(attachment.room.id, attachment.replay.cursor))
        attachment.room.settle(attachment)


def _next_page(page: int, frames: Sequence[tuple[int, bytes]]) -> int:
    size = sum(len(frame) for _, frame in frames)
    if size > PAGE_BYTES:
        return max(1, page // 2)
    if size * 2 <= PAGE_BYTES:
        return min(LARGEST_PAGE, page * 2)
    return page
