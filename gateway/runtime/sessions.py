"""What can be done with sessions, whoever asks: frames and REST come through here.

Every change is told to the attachments.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from gateway import errors, ids
from gateway.auth.identity import Identity
from gateway.auth.policy import Action, is_operator, may
from gateway.clock import Clock
from gateway.fanout.hints import ChangedHint, MemberHint
from gateway.fanout.publish import Publisher
from gateway.protocol import replies
from gateway.protocol.codec import json_bytes
from gateway.protocol.frames import MAX_TTL_S
from gateway.protocol.replies import SessionEventName
from gateway.runtime.searching import Matches, Query, search_page
from gateway.text.sentences import split_sentences
from store import errors as store_errors
from store.log import Log
from store.records import Records
from store.types import (
    EMPTY_OBJECT,
    Access,
    Change,
    Cursor,
    EndReason,
    Listing,
    Member,
    NewSession,
    Role,
    Session,
)

MEMBERS_LIMIT: Final = 1_000


class SessionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks of a new session. `ttl_s` None: the node's default."""

    title: str = ""
    persistent: bool = False
    ttl_s: int | None = None
    exclusive: bool = False
    context: bytes = EMPTY_OBJECT
    metadata: bytes = EMPTY_OBJECT
    text: str | None = None
    voice: str | None = None
    members: tuple[tuple[str, Role], ...] = ()


class Sight(NamedTuple):
    """A session as its caller sees it. `role` is None for an operator who is no member."""

    session: Session
    role: Role | None


@contextmanager
def translated() -> Iterator[None]:
    """Turn what a store raises into what a requester may be told."""
    try:
        yield
    except store_errors.NotFound as error:
        raise errors.NotFound("there is no such session, or it is not yours") from error
    except store_errors.Ended as error:
        raise ended(error.reason) from error
    except store_errors.VersionConflict as error:
        raise errors.Conflict(f"the session is at version {error.version} by now: read it again") from error
    except store_errors.TakenOver as error:
        raise errors.Superseded("somebody else has taken this session over") from error
    except store_errors.LimitReached as error:
        raise errors.LimitReached(f"{error.limit} live sessions are allowed: close one first") from error
    except store_errors.Invalid as error:
        raise errors.BadRequest(f"this cannot be stored: {error}") from error
    except store_errors.Unavailable as error:
        raise errors.Unavailable("the store does not answer: try again", retry_after_ms=1000) from error


def ended(reason: str | None) -> errors.GatewayError:
    """The error that says how a session ended."""
    if reason == "expired":
        return errors.SessionExpired("the session has expired: open a new one")
    return errors.SessionClosed("the session is closed: open a new one")


class Sessions:
    """The operations. Each checks the caller's right first; what is not theirs does not exist."""

    def __init__(
        self, log: Log, records: Records, publisher: Publisher, clock: Clock, ttl_s: int, per_user: int
    ) -> None:
        self._log = log
        self._records = records
        self._publisher = publisher
        self._clock = clock
        self._ttl_s = ttl_s
        self._per_user = per_user

    async def create(self, identity: Identity, spec: SessionSpec) -> Session:
        """Make a session owned by the caller; who else is a member from the beginning is told so."""
        _check_members(identity.user, spec.members)
        ttl_s = None if spec.persistent else (self._ttl_s if spec.ttl_s is None else spec.ttl_s)
        if ttl_s is not None and not 1 <= ttl_s <= MAX_TTL_S:
            raise errors.BadRequest(f"ttl must be 1 to {MAX_TTL_S} seconds; for longer ask for persistent")
        new = NewSession(
            id=ids.new_id(),
            tenant=identity.tenant,
            owner=identity.user,
            created_at=self._clock.now_ms(),
            title=spec.title,
            ttl_s=ttl_s,
            exclusive=spec.exclusive,
            context=spec.context,
            metadata=spec.metadata,
            text=spec.text,
            voice=spec.voice,
            members=spec.members,
        )
        with translated():
            session = await self._records.create(new, limit=self._per_user)
        for user, _ in spec.members:
            self._tell_joined(identity.tenant, user, session.id)
        return session

    async def get(self, identity: Identity, session: str) -> Sight:
        """The session as it is at this moment, ended or not."""
        return await self._may(identity, session, "history", ended_too=True)

    async def readable(self, identity: Identity, session: str) -> Sight:
        """The same for whoever needs the right alone: `head` and expiry may be older."""
        return await self._may(identity, session, "history", ended_too=True, cached=True)

    async def access(self, tenant: str, user: str, session: str) -> Access:
        """The session as one of its members sees it, ended or not; NotFound for everybody else."""
        if not ids.is_id(session):
            raise errors.NotFound("there is no such session, or it is not yours")
        with translated():
            access = await self._log.access(tenant, session, user)
        if access is None:
            raise errors.NotFound("there is no such session, or it is not yours")
        return access

    async def live_access(self, tenant: str, user: str, session: str) -> Access:
        """The same for a session that must not have ended."""
        access = await self.access(tenant, user, session)
        if access.session.ended_at is not None:
            raise ended(access.session.end_reason)
        return access

    async def list_for(self, identity: Identity, before: tuple[int, str] | None, limit: int) -> list[Listing]:
        """The caller's sessions, latest first."""
        with translated():
            return await self._records.list_for(identity.tenant, identity.user, before=before, limit=limit)

    async def attachable(self, identity: Identity, session: str) -> Sight:
        """The session for whoever may show life for it: it has not ended."""
        return await self._may(identity, session, "attach", cached=True)

    async def writable(self, identity: Identity, session: str) -> Sight:
        """The session for whoever may write in it, as one of its members: every message has a sender."""
        seen = await self._may(identity, session, "send", ended_too=True, cached=True)
        if seen.role is None:
            raise errors.Forbidden("only members write in a session: make yourself one first")
        return seen

    async def update(
        self, identity: Identity, session: str, change: Change, expected_version: int | None = None
    ) -> Session:
        """Change title, context, metadata, status or TTL, and tell the attachments."""
        await self._may(identity, session, _action_of(change))
        with translated():
            changed = await self._records.update(
                identity.tenant,
                session,
                change,
                now=self._clock.now_ms(),
                expected_version=expected_version,
                by=identity.user,
            )
        event: SessionEventName = "archived" if change.status == "archived" else "updated"
        frame = replies.session_event(session, changed.version, event, change)
        life = None if change.ttl_s is None else (changed.ttl_s, changed.expires_at)
        self._publisher.changed(session, ChangedHint(changed.version, frame, life))
        return changed

    async def segment(self, identity: Identity, session: str) -> Session:
        """Split the session's text into sentences for speech, store them, and tell the attachments.

        Where it has them already nothing changes. Conflict: it was changed in between.
        """
        found = (await self._may(identity, session, "update")).session
        if found.text is None:
            raise errors.BadRequest("the session has no text: create it with one")
        # A text of hostile making takes a third of a second: too long for everybody else.
        sentences = await asyncio.to_thread(split_sentences, found.text)
        if found.sentences is not None and msgspec.json.decode(found.sentences) == sentences:
            return found
        change = Change(sentences=json_bytes(sentences))
        return await self.update(identity, session, change, expected_version=found.version)

    async def delete(self, identity: Identity, session: str) -> Session:
        """End a session and show it to nobody any more; what it holds is kept. Again is no error."""
        seen = await self._seen(identity, session, self._log)
        if not may(identity, seen.role, "delete"):
            raise errors.Forbidden(f"a {seen.role} of this session may not do that")
        deleted = await self.end(identity, session, "deleted") if seen.session.ended_at is None else None
        found = deleted or seen.session
        if found.end_reason != "deleted":
            raise ended(found.end_reason)
        return found

    async def end(self, identity: Identity, session: str, reason: EndReason = "closed") -> Session:
        """End a session. It having ended before is no error: it is what was asked for."""
        seen = await self._may(identity, session, "close", ended_too=True)
        with translated():
            over = await self._records.end(
                identity.tenant, session, reason, now=self._clock.now_ms(), by=identity.user
            )
        if over is None:
            if seen.session.ended_at is not None:
                # Told again: whoever asks twice has perhaps had no answer, and the attachments no word of it.
                self.tell_ended(seen.session)
            return seen.session
        self.tell_ended(over)
        return over

    def tell_ended(self, session: Session) -> None:
        """Tell the attachments of a session that has just ended."""
        reason = session.end_reason or "closed"
        frame = replies.session_event(session.id, session.version, reason)
        self._publisher.ended(session, reason, frame)

    async def take_over(self, session: Session, by: tuple[str, ...], is_held: bool = False) -> int:
        """Take an exclusive session over for the client of the connections `by`; return the new epoch.

        Who held it is told and can write no more. The version stays, so the row may be one just read. Where
        that client holds it already it does so only from the epoch in the row; Superseded.
        """
        held = session.epoch if is_held else None
        with translated():
            epoch = await self._records.take_over(session.tenant, session.id, held=held)
        frame = replies.session_event(session.id, session.version, "superseded")
        self._publisher.superseded(session.id, frame, epoch, by)
        return epoch

    async def search(self, identity: Identity, session: str | None, query: Query) -> Matches:
        """Messages that match, of one session, or of all of the caller's that have not ended."""
        user = identity.user
        if session is not None:
            found = await self.readable(identity, session)
            if found.role is None:
                user = found.session.owner  # an operator finds what its owner does
        with translated():
            return await search_page(self._log, query.search(identity.tenant, user, session))

    async def members(self, identity: Identity, session: str) -> list[Member]:
        """Everybody who has a right in the session; for members."""
        await self._may(identity, session, "list_members", ended_too=True)
        with translated():
            return await self._log.members(session)

    async def cursors(self, identity: Identity, session: str) -> list[Cursor]:
        """How far everybody has received and read; for members."""
        await self._may(identity, session, "list_members", ended_too=True)
        with translated():
            return await self._log.cursors(session)

    async def put_member(self, identity: Identity, session: str, user: str, role: Role) -> Session:
        """Give a user a right in the session; for its owner."""
        check_member(user, role)
        seen = await self._may(identity, session, "change_members")
        if user == seen.session.owner:
            raise errors.BadRequest("the owner's own right cannot be changed")
        with translated():
            known = {member.user for member in await self._log.members(session)}
            if user not in known and len(known) >= MEMBERS_LIMIT:
                raise errors.LimitReached(f"{MEMBERS_LIMIT} members are allowed")
            changed = await self._records.put_member(
                identity.tenant, session, user, role, now=self._clock.now_ms(), by=identity.user
            )
        updated = replies.session_event(session, changed.version, "updated")
        self._publisher.member(session, MemberHint(changed.version, updated, user, role))
        self._tell_joined(identity.tenant, user, session)
        return changed

    async def remove_member(self, identity: Identity, session: str, user: str) -> Session:
        """Take a user's right away; for the owner, and for everybody of themselves."""
        await self._may(identity, session, "leave" if user == identity.user else "change_members")
        with translated():
            changed = await self._records.remove_member(
                identity.tenant, session, user, now=self._clock.now_ms(), by=identity.user
            )
        updated = replies.session_event(session, changed.version, "updated")
        gone = replies.session_event(session, changed.version, "deleted")
        self._publisher.member(session, MemberHint(changed.version, updated, user, None, gone))
        return changed

    def _tell_joined(self, tenant: str, user: str, session: str) -> None:
        joined = replies.user_signal(user, "session.joined", {"session": session})
        self._publisher.user_signal(tenant, user, joined)

    async def _may(
        self,
        identity: Identity,
        session: str,
        action: Action,
        *,
        ended_too: bool = False,
        cached: bool = False,
    ) -> Sight:
        seen = await self._seen(identity, session, self._records if cached else self._log)
        if seen.session.end_reason == "deleted" and action != "close":
            raise errors.NotFound("there is no such session, or it is not yours")
        if seen.session.ended_at is not None and not ended_too:
            raise ended(seen.session.end_reason)
        if not may(identity, seen.role, action):
            raise errors.Forbidden(f"a {seen.role} of this session may not do that")
        return seen

    async def _seen(self, identity: Identity, session: str, source: "Log | Records") -> Sight:
        """The session for a member of it, or for an operator of its tenant; NotFound for everybody else."""
        if ids.is_id(session):
            with translated():
                access = await source.access(identity.tenant, session, identity.user)
                if access is not None:
                    return Sight(access.session, access.role)
                found = await source.get(identity.tenant, session) if is_operator(identity) else None
            if found is not None:
                return Sight(found, None)
        raise errors.NotFound("there is no such session, or it is not yours")


def _action_of(change: Change) -> Action:
    """The right that a change takes. Whoever has one of the owner's has the others."""
    if change.status is not None:
        return "archive"
    return "update" if change.ttl_s is None else "keep"


def _check_members(owner: str, members: Sequence[tuple[str, Role]]) -> None:
    if len(members) >= MEMBERS_LIMIT:
        raise errors.LimitReached(f"{MEMBERS_LIMIT} members are allowed")
    named = {user for user, _ in members}
    if len(named) < len(members) or owner in named:
        raise errors.BadRequest("a user is named twice among the members, or is the owner, who is one anyway")
    for user, role in members:
        check_member(user, role)


def check_member(user: str, role: Role) -> None:
    """BadRequest for what nobody can be made."""
    if not ids.is_name(user):
        raise errors.BadRequest("a user's name is 1 to 64 of letters, digits and _ . : -")
    if role == "owner":
        raise errors.BadRequest("a session has one owner: choose writer or reader")
