"""Group commit: the sends of many connections go to the log in one transaction, and are answered after it."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from gateway.clock import Clock
from gateway.fanout.publish import Publisher
from gateway.protocol import replies
from store.errors import Unavailable
from store.types import Appended, Draft, Message, Refused

# The log takes up to 512 drafts at once; 4 MiB keep one group of large messages from holding up everybody
# for long.
GROUP_DRAFTS: Final = 512
GROUP_BYTES: Final = 4 * 1024 * 1024
# What may wait for the log: at 20 k commits a second, half a second. Above it senders are told to come back.
WAITING_DRAFTS: Final = 10_000
WAITING_BYTES: Final = 64 * 1024 * 1024
# Every sender has its answer within 5 s of its offer, whatever the log does: from 4 s on it is told to send
# again. Until then a group is tried again by its ids: a commit whose outcome is unknown is found, and a log
# that is away for a moment costs a moment.
OVERDUE_S: Final = 4.0
LOOK_S: Final = 0.25
RETRY_FIRST_S: Final = 0.1
RETRY_LAST_S: Final = 0.5

_logger = structlog.get_logger("gateway.runtime")

Outcome = Appended | Refused | None


class Appends(Protocol):
    """What commits: the log, or what tells the cache of it as well."""

    async def append(self, drafts: Sequence[Draft]) -> list[Appended | Refused]:
        """As `Log.append`."""


class Observer(Protocol):
    """What the committer reports of its work."""

    def committed(self, drafts: int, seconds: float) -> None:
        """One group of `drafts` took `seconds` from its begin to its answer."""


class _Send:
    """A draft on its way to the log, and who waits for what becomes of it."""

    __slots__ = ("draft", "is_answered", "offered_at", "on_done", "size")

    def __init__(self, draft: Draft, on_done: Callable[[Outcome], None], offered_at: float) -> None:
        self.draft = draft
        self.on_done = on_done
        self.offered_at = offered_at
        self.size = len(draft.content) + len(draft.metadata)
        self.is_answered = False

    def answer(self, outcome: Outcome) -> None:
        if self.is_answered:
            return
        self.is_answered = True
        try:
            self.on_done(outcome)
        except Exception:
            # A bug in answering one sender must not leave the others of the group without an answer.
            _logger.exception("answer_failed", session=self.draft.session)


class Committer:
    """Takes what is waiting, commits it, answers, and takes what has gathered meanwhile: no timer.

    An idle system commits a message at once; a loaded one commits in large groups. Drafts of one session
    are committed in the order offered. `on_done` is called once, in the event loop, after COMMIT and after
    the hint is published, or within 5 s with None when the log is away: the message may or may not be stored
    then, and a repeated send will tell.
    """

    def __init__(self, log: Appends, publisher: Publisher, clock: Clock, observer: Observer) -> None:
        self._log = log
        self._publisher = publisher
        self._clock = clock
        self._observer = observer
        self._waiting: deque[_Send] = deque()
        self._waiting_bytes = 0
        self._group: list[_Send] = []  # what the log is asked to commit now
        self._limit: asyncio.Timeout | None = None  # of the time for the group
        self._look: asyncio.TimerHandle | None = None  # at who waits too long; while anybody waits
        self._ready = asyncio.Event()
        self._is_stopping = False

    @property
    def waiting(self) -> int:
        """Drafts that have not been given to the log."""
        return len(self._waiting)

    def offer(self, draft: Draft, on_done: Callable[[Outcome], None]) -> bool:
        """Queue a draft.

        False where the queue is full or the committer stops, and `on_done` will not be called.
        """
        send = _Send(draft, on_done, self._clock.monotonic())
        if (
            self._is_stopping
            or len(self._waiting) >= WAITING_DRAFTS
            or self._waiting_bytes + send.size > WAITING_BYTES
        ):
            return False
        self._waiting.append(send)
        self._waiting_bytes += send.size
        self._ready.set()
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._give_up_overdue)
        return True

    def stop(self) -> None:
        """Take nothing more; `run` returns when everything taken is answered."""
        self._is_stopping = True
        self._ready.set()

    async def run(self) -> None:
        """Commit until stopped."""
        while True:
            if not self._waiting:
                if self._is_stopping:
                    return
                self._ready.clear()
                await self._ready.wait()
                continue
            self._group = self._take()
            try:
                await self._commit(self._group)
            finally:
                for send in self._group:
                    send.answer(None)  # whoever a bug or a stop has left without
                self._group = []

    def _take(self) -> list[_Send]:
        group: list[_Send] = []
        size = 0
        while self._waiting and len(group) < GROUP_DRAFTS and size < GROUP_BYTES:
            send = self._waiting.popleft()
            group.append(send)
            size += send.size
        self._waiting_bytes -= size
        return group

    def _give_up_overdue(self) -> None:
        """Answer whoever has waited too long; end the try for a group that nobody waits for any more."""
        self._look = None
        overdue = self._clock.monotonic() - OVERDUE_S
        while self._waiting and self._waiting[0].offered_at <= overdue:
            send = self._waiting.popleft()
            self._waiting_bytes -= send.size
            send.answer(None)
        for send in self._group:
            if send.offered_at <= overdue:
                send.answer(None)
        if self._group and self._limit is not None and all(send.is_answered for send in self._group):
            self._limit.reschedule(asyncio.get_running_loop().time())
        if self._waiting or self._group:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._give_up_overdue)

    async def _commit(self, group: list[_Send]) -> None:
        begun = self._clock.monotonic()
        outcomes = await self._append([send.draft for send in group])
        if outcomes is None:
            return  # `run` tells the senders
        for send, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Appended) and outcome.id == send.draft.id:
                # Ours, even if a second attempt had to find it: not yet published by anybody.
                outcome = Appended(seq=outcome.seq, id=outcome.id, created_at=outcome.created_at)
                self._publish(send.draft, outcome)
            send.answer(outcome)
        self._observer.committed(len(group), self._clock.monotonic() - begun)

    async def _append(self, drafts: list[Draft]) -> list[Appended | Refused] | None:
        """Ask the log until it answers, or nobody waits for it any more: None, and the outcome is unknown."""
        try:
            async with asyncio.timeout(None) as self._limit:
                return await self._append_patiently(drafts)
        except TimeoutError:
            _logger.warning("commit_given_up", drafts=len(drafts))
            return None
        finally:
            self._limit = None

    async def _append_patiently(self, drafts: list[Draft]) -> list[Appended | Refused] | None:
        pause = RETRY_FIRST_S
        while True:
            try:
                outcomes = await self._log.append(drafts)
                if len(outcomes) == len(drafts):
                    return outcomes
                _logger.error("commit_miscounted", drafts=len(drafts), outcomes=len(outcomes))
                return None
            except Unavailable as error:
                _logger.debug("commit_unavailable", drafts=len(drafts), error=str(error))
            except Exception:
                # A bug, whose outcome is as unknown: the senders are told to send again all the same.
                _logger.exception("commit_failed", drafts=len(drafts))
                return None
            await asyncio.sleep(pause)
            pause = min(RETRY_LAST_S, pause * 2)

    def _publish(self, draft: Draft, outcome: Appended) -> None:
        message = Message(
            session=draft.session,
            seq=outcome.seq,
            id=outcome.id,
            client_id=draft.client_id,
            sender=draft.sender,
            role=draft.role,
            content=draft.content,
            metadata=draft.metadata,
            created_at=outcome.created_at,
        )
        self._publisher.message(draft.session, outcome.seq, replies.message(message))
