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
# A commit whose outcome is unknown is asked for again by its ids; only when that fails too is the sender
# told to send again.
ATTEMPTS: Final = 3
RETRY_S: Final = 0.2

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


class Committer:
    """Takes what is waiting, commits it, answers, and takes what has gathered meanwhile: no timer.

    An idle system commits a message at once; a loaded one commits in large groups. Drafts of one session
    are committed in
    the order offered. `on_done` is called in the event loop, after COMMIT and after the hint is published,
    with None when the log is away:
    the message may or may not be stored then, and a repeated send will tell.
    """

    def __init__(self, log: Appends, publisher: Publisher, clock: Clock, observer: Observer) -> None:
        self._log = log
        self._publisher = publisher
        self._clock = clock
        self._observer = observer
        self._waiting: deque[tuple[Draft, Callable[[Outcome], None]]] = deque()
        self._waiting_bytes = 0
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
        size = len(draft.content) + len(draft.metadata)
        if (
            self._is_stopping
            or len(self._waiting) >= WAITING_DRAFTS
            or self._waiting_bytes + size > WAITING_BYTES
        ):
            return False
        self._waiting.append((draft, on_done))
        self._waiting_bytes += size
        self._ready.set()
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
            await self._commit(self._take())

    def _take(self) -> list[tuple[Draft, Callable[[Outcome], None]]]:
        group: list[tuple[Draft, Callable[[Outcome], None]]] = []
        size = 0
        while self._waiting and len(group) < GROUP_DRAFTS and size < GROUP_BYTES:
            draft, on_done = self._waiting.popleft()
            group.append((draft, on_done))
            size += len(draft.content) + len(draft.metadata)
        self._waiting_bytes -= size
        return group

    async def _commit(self, group: list[tuple[Draft, Callable[[Outcome], None]]]) -> None:
        begun = self._clock.monotonic()
        outcomes = await self._append([draft for draft, _ in group])
        for (draft, on_done), outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Appended) and outcome.id == draft.id:
                # Ours, even if a second attempt had to find it: not yet published by anybody.
                outcome = Appended(seq=outcome.seq, id=outcome.id, created_at=outcome.created_at)
                self._publish(draft, outcome)
            try:
                on_done(outcome)
            except Exception:
                # A bug in answering one sender must not leave the others of the group without an answer.
                _logger.exception("answer_failed", session=draft.session)
        self._observer.committed(len(group), self._clock.monotonic() - begun)

    async def _append(self, drafts: list[Draft]) -> list[Appended | Refused] | list[None]:
        for attempt in range(ATTEMPTS):
            try:
                outcomes = await self._log.append(drafts)
                if len(outcomes) == len(drafts):
                    return outcomes
                _logger.error("commit_miscounted", drafts=len(drafts), outcomes=len(outcomes))
                break
            except Unavailable as error:
                _logger.warning(
                    "commit_unavailable", attempt=attempt + 1, drafts=len(drafts), error=str(error)
                )
            except Exception:
                # A bug, whose outcome is as unknown: the senders are told to send again all the same.
                _logger.exception("commit_failed", drafts=len(drafts))
                break
            if attempt + 1 < ATTEMPTS:
                await asyncio.sleep(RETRY_S * (attempt + 1))
        return [None] * len(drafts)

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
