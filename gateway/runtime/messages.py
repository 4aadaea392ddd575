"""Messages as callers read and write them: pages bounded in number and in bytes, and what a refusal says."""

import asyncio
from typing import Final, NamedTuple

import msgspec

from gateway import errors, ids
from gateway.auth.identity import Identity
from gateway.clock import Clock
from gateway.runtime.committer import Committer, Outcome
from gateway.runtime.lives import Lives
from gateway.runtime.sessions import Sessions, ended, translated
from store.records import Records
from store.types import EMPTY_OBJECT, Appended, Draft, Message, MessageRole, Refused

# One answer of history ends early, with `more`, when it has grown to this.
PAGE_BYTES: Final = 512 * 1024
_STEP: Final = 50


class Page(NamedTuple):
    """Messages in the order of seq. `more`: there are others in the direction that was asked for."""

    messages: list[Message]
    more: bool


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks to be stored. `client_id` makes it safe to ask again."""

    client_id: str
    content: str
    role: MessageRole = "user"
    metadata: bytes = EMPTY_OBJECT


class Posted(NamedTuple):
    """A message that is committed. `duplicate`: it was before."""

    message: Message
    duplicate: bool


def draft_of(
    identity: Identity, session: str, new: NewMessage, created_at: int, epoch: int | None = None
) -> Draft:
    """A message of the caller's, on its way to the log."""
    return Draft(
        session=session,
        tenant=identity.tenant,
        sender=identity.user,
        id=ids.new_id(),
        client_id=new.client_id,
        role=new.role,
        content=new.content,
        metadata=new.metadata,
        created_at=created_at,
        epoch=epoch,
    )


def not_stored() -> errors.GatewayError:
    """What its sender is told when nobody knows what became of a message.

    A new one each time: an exception that is raised again keeps the frames of every time before.
    """
    return errors.Unavailable(
        "the message could not be stored now: send it again with the same id", retry_after_ms=1000
    )


def refusal(code: str) -> errors.GatewayError:
    """What the sender of a message is told that the log has refused."""
    match code:
        case "not_found":
            return errors.NotFound("there is no such session, or it is not yours")
        case "forbidden":
            return errors.Forbidden("a reader of this session may not do that")
        case "superseded":
            return errors.Superseded("another attachment has taken this session over")
        case "id_conflict":
            return errors.Conflict("this id was used for another message: choose a new one")
        case "invalid":
            return errors.BadRequest("the message holds what cannot be stored")
        case _:
            return ended(code)


class History:
    """Reads pages through the cache. Who may read them has been asked before."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def after(self, session: str, after: int, limit: int) -> Page:
        """The first messages behind a seq."""
        page: list[Message] = []
        size = 0
        while len(page) < limit and size < PAGE_BYTES:
            step = min(_STEP, limit - len(page))
            # One more than is due tells whether there is more.
            read = await self._records.read(session, after=page[-1].seq if page else after, limit=step + 1)
            page += read[:step]
            size += _size(read[:step])
            if len(read) <= step:
                return Page(page, False)
        return Page(page, True)

    async def before(self, session: str, before: int, limit: int) -> Page:
        """The last messages before a seq."""
        page: list[Message] = []
        size = 0
        while len(page) < limit and size < PAGE_BYTES:
            step = min(_STEP, limit - len(page))
            earlier = await self._records.read_before(
                session, before=page[0].seq if page else before, limit=step
            )
            page = earlier + page
            size += _size(earlier)
            if len(earlier) < step:
                break
        return Page(page, bool(page) and page[0].seq > 1)


class Messages:
    """The messages of one session, for those who have the right to them."""

    def __init__(
        self, sessions: Sessions, records: Records, committer: Committer, lives: Lives, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._history = History(records)
        self._committer = committer
        self._lives = lives
        self._clock = clock

    async def post(self, identity: Identity, session: str, new: NewMessage) -> Posted:
        """Store a message and tell whoever is attached; returns after COMMIT.

        Nobody is turned out of an exclusive session by it, and it asks for no epoch: those fence attachments.
        """
        seen = await self._sessions.writable(identity, session)
        draft = draft_of(identity, session, new, self._clock.now_ms())
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not answer.done():
                answer.set_result(outcome)

        if not self._committer.offer(draft, done):
            raise not_stored()
        match await answer:
            case Refused(code=code):
                raise refusal(code)
            case None:
                raise not_stored()
            case Appended(seq=seq, id=id, created_at=created_at, duplicate=duplicate):
                await self._lives.show(seen.session)
                message = Message(
                    session=session,
                    seq=seq,
                    id=id,
                    client_id=draft.client_id,
                    sender=draft.sender,
                    role=draft.role,
                    content=draft.content,
                    metadata=draft.metadata,
                    created_at=created_at,
                )
                return Posted(message, duplicate)

    async def page(
        self, identity: Identity, session: str, *, before: int | None, after: int | None, limit: int
    ) -> Page:
        """Those behind `after`, or before `before`; neither: the latest."""
        if after is not None:
            await self._sessions.readable(identity, session)
            with translated():
                return await self._history.after(session, after, limit)
        if before is None:
            before = (await self._sessions.get(identity, session)).session.head + 1
        else:
            await self._sessions.readable(identity, session)
        with translated():
            return await self._history.before(session, before, limit)


def _size(messages: list[Message]) -> int:
    return sum(len(message.content) + len(message.metadata) for message in messages)
