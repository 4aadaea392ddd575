"""The log against a model: lists and dicts that do what the docstrings of `Log` say, in the plainest way."""

import asyncio
import random
from collections.abc import Awaitable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from store.errors import Ended, NotFound, StoreError, VersionConflict
from store.log import Log
from store.types import (
    Appended,
    Change,
    Cursor,
    Draft,
    EndReason,
    Listing,
    Mark,
    Member,
    Message,
    NewSession,
    Refused,
    Session,
    Standing,
    Tally,
)
from tests.store.backends.logs import OpenLog
from tests.store.making import NOW

T = TypeVar("T")

USERS = ("alice", "bob", "carol")
TENANTS = ("t", "u")
NOWHERE: Final = str(UUID(int=0))
SEEDS: Final = st.integers(0, 2**32)


@dataclass
class Modelled:
    """A session, as the promise has it."""

    id: str
    tenant: str
    expires_at: int | None
    epoch: int = 1
    version: int = 1
    title: str = ""
    status: str = "active"
    end_reason: EndReason | None = None
    roles: dict[str, str] = field(default_factory=lambda: {"alice": "owner"})
    messages: list[Message] = field(default_factory=list)
    cursors: dict[str, tuple[int, int]] = field(default_factory=dict)
    events: list[str] = field(default_factory=lambda: ["created"])

    def change(self, event: str) -> None:
        self.version += 1
        self.events.append(event)

    def check(self) -> StoreError | None:
        return None if self.end_reason is None else Ended(self.end_reason)


class Model:
    """What the log should hold, and what it should answer."""

    def __init__(self) -> None:
        self.sessions: dict[str, Modelled] = {}
        self.ids: set[str] = set()

    def append(self, draft: Draft) -> Appended | Refused:
        session = self.sessions.get(draft.session)
        if session is None or session.tenant != draft.tenant or draft.sender not in session.roles:
            return Refused(code="not_found")
        for message in session.messages:
            if (message.sender, message.client_id) == (draft.sender, draft.client_id):
                if (message.role, message.content, message.metadata) != (
                    draft.role,
                    draft.content,
                    draft.metadata,
                ):
                    return Refused(code="id_conflict")
                return Appended(seq=message.seq, id=message.id, created_at=message.created_at, duplicate=True)
        if draft.id in self.ids:
            return Refused(code="id_conflict")
        if session.end_reason is not None:
            return Refused(code="expired" if session.end_reason == "expired" else "closed")
        if session.roles[draft.sender] == "reader":
            return Refused(code="forbidden")
        if draft.epoch is not None and draft.epoch < session.epoch:
            return Refused(code="superseded")
        self.ids.add(draft.id)
        seq = len(session.messages) + 1
        session.messages.append(
            Message(
                session=draft.session,
                seq=seq,
                id=draft.id,
                client_id=draft.client_id,
                sender=draft.sender,
                role=draft.role,
                content=draft.content,
                metadata=draft.metadata,
                created_at=draft.created_at,
            )
        )
        return Appended(seq=seq, id=draft.id, created_at=draft.created_at)


def some_draft(chance: random.Random, session: str, modelled: Modelled | None) -> Draft:
    """Of few values, so that they meet; mostly one that can succeed."""
    users, tenants = list(USERS), list(TENANTS)
    if modelled is not None:
        users += [*modelled.roles] * 3
        tenants += [modelled.tenant] * 8
    return Draft(
        session=session,
        tenant=chance.choice(tenants),
        sender=chance.choice(users),
        id=str(UUID(int=chance.randint(1, 25))),
        client_id=f"c{chance.randint(1, 12)}",
        role=chance.choice(["user", "assistant"]),
        content=chance.choice(["", "one", 'a "two"\n', "ż"]),
        metadata=chance.choice([b"{}", b'{"a": 1}']),
        created_at=NOW + chance.randint(0, 100),
        epoch=chance.choice([None, 1, 2, 3]),
    )


class LogMachine(RuleBasedStateMachine):
    """Does the same to a log and to the model, and compares."""

    open_log: ClassVar[OpenLog]
    sessions = Bundle("sessions")

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.log: Log = self.run(self.stack.enter_async_context(type(self).open_log()))
        self.model = Model()
        self.serial = 0

    def run(self, call: Awaitable[T]) -> T:
        async def waiting() -> T:
            return await call

        return self.runner.run(waiting())

    def outcome(self, call: Awaitable[Any]) -> Any:
        """The answer, or the class of the error."""
        try:
            return self.run(call)
        except StoreError as error:
            return type(error)

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.run(self.stack.aclose())
            self.runner.close()

    # -- the rules

    # Few sessions with members of every kind, so that what is done meets in them.
    @precondition(lambda self: self.serial < 3)
    @rule(
        target=sessions,
        tenant=st.sampled_from(TENANTS),
        ttl_s=st.sampled_from([None, None, 1, 3]),
        bob=st.sampled_from(["writer", "reader"]),
    )
    def create(self, tenant: str, ttl_s: int | None, bob: Any) -> str:
        self.serial += 1
        new = NewSession(
            id=str(UUID(int=self.serial)), tenant=tenant, owner="alice", created_at=NOW, ttl_s=ttl_s
        )
        self.run(self.log.create(new, limit=1_000))
        expires_at = None if ttl_s is None else NOW + ttl_s * 1000
        self.model.sessions[new.id] = Modelled(new.id, tenant, expires_at)
        self.put_member(new.id, "bob", bob)
        return new.id

    # Three of them: in each example some rules are left out, and without messages one shows little. A number
    # stands for a whole group: drawn field by field, a few groups would use up what an example may draw.
    @rule(seed=SEEDS, known=st.lists(sessions, min_size=1, max_size=3))
    def append(self, seed: int, known: list[str]) -> None:
        self._append(seed, known)

    @rule(seed=SEEDS, known=st.lists(sessions, min_size=1, max_size=3))
    def append_again(self, seed: int, known: list[str]) -> None:
        self._append(seed, known)

    @rule(seed=SEEDS, session=sessions)
    def append_to_one(self, seed: int, session: str) -> None:
        self._append(seed, [session])

    def _append(self, seed: int, known: list[str]) -> None:
        chance = random.Random(seed)  # noqa: S311
        places = [chance.choice([*known * 3, NOWHERE]) for _ in range(chance.randint(1, 9))]
        drafts = [some_draft(chance, session, self.model.sessions.get(session)) for session in places]
        assert self.run(self.log.append(drafts)) == [self.model.append(draft) for draft in drafts], drafts

    @rule(session=sessions, user=st.sampled_from(USERS), role=st.sampled_from(["writer", "reader"]))
    def put_member(self, session: str, user: str, role: Any) -> None:
        modelled = self.model.sessions[session]
        answer = self.outcome(self.log.put_member(modelled.tenant, session, user, role, now=NOW))
        if error := modelled.check():
            assert answer is type(error)
            return
        modelled.change("updated")
        if user != "alice":
            modelled.roles[user] = role
        assert answer.version == modelled.version

    @rule(session=sessions, user=st.sampled_from(USERS))
    def remove_member(self, session: str, user: str) -> None:
        modelled = self.model.sessions[session]
        answer = self.outcome(self.log.remove_member(modelled.tenant, session, user, now=NOW))
        if error := modelled.check():
            assert answer is type(error)
        elif modelled.roles.get(user, "owner") == "owner":
            assert answer is NotFound
        else:
            modelled.change("updated")
            del modelled.roles[user]
            assert answer.version == modelled.version

    @rule(
        session=sessions,
        title=st.sampled_from([None, "", "x"]),
        status=st.sampled_from([None, "active", "archived"]),
    )
    def update(self, session: str, title: str | None, status: Any) -> None:
        modelled = self.model.sessions[session]
        change = Change(title=title, status=status)
        for expected in (modelled.version + 1, modelled.version):
            answer = self.outcome(
                self.log.update(modelled.tenant, session, change, now=NOW, expected_version=expected)
            )
            if error := modelled.check():
                assert answer is type(error)
            elif expected != modelled.version:
                assert answer is VersionConflict
        if modelled.check() is None:
            modelled.change("archived" if (modelled.status, status) == ("active", "archived") else "updated")
            modelled.title = modelled.title if title is None else title
            modelled.status = status or modelled.status

    # Most sessions live on: nothing much can happen in those that do not.
    @rule(
        session=sessions,
        reason=st.sampled_from(["closed", "deleted", "expired"]),
        is_last=st.sampled_from("ynnnn"),
    )
    def end(self, session: str, reason: Any, is_last: str) -> None:
        if is_last == "n":
            return
        modelled = self.model.sessions[session]
        answer = self.run(self.log.end(modelled.tenant, session, reason, now=NOW))
        if modelled.end_reason is not None:
            assert answer is None
            return
        self._end(modelled, reason)
        assert answer is not None
        assert answer.version == modelled.version

    @rule(now=st.sampled_from([0, 0, 0, 1, 2, 6]), limit=st.integers(0, 3))
    def expire_due(self, now: int, limit: int) -> None:
        due = [
            session
            for session in self.model.sessions.values()
            if session.end_reason is None
            and session.expires_at is not None
            and session.expires_at <= NOW + now * 1000
        ]
        due.sort(key=lambda session: (session.expires_at, session.id))
        answer = self.run(self.log.expire_due(now=NOW + now * 1000, limit=limit))
        assert [session.id for session in answer] == [session.id for session in due[:limit]]
        for session in due[:limit]:
            self._end(session, "expired")

    def _end(self, session: Modelled, reason: EndReason) -> None:
        session.end_reason = reason
        session.change(reason)

    @rule(session=sessions, seconds=st.integers(0, 6))
    def extend(self, session: str, seconds: int) -> None:
        modelled = self.model.sessions[session]
        self.run(self.log.extend({session: NOW + seconds * 1000, NOWHERE: NOW}))
        if modelled.end_reason is None and modelled.expires_at is not None:
            modelled.expires_at = max(modelled.expires_at, NOW + seconds * 1000)

    @rule(session=sessions)
    def take_over(self, session: str) -> None:
        modelled = self.model.sessions[session]
        answer = self.outcome(self.log.take_over(modelled.tenant, session))
        if error := modelled.check():
            assert answer is type(error)
        else:
            modelled.epoch += 1
            assert answer == modelled.epoch

    @rule(
        session=sessions,
        user=st.sampled_from(USERS),
        delivered=st.none() | st.integers(0, 12),
        read=st.none() | st.integers(0, 12),
    )
    def mark(self, session: str, user: str, delivered: int | None, read: int | None) -> None:
        modelled = self.model.sessions[session]
        self.run(self.log.mark([Mark(session=session, user=user, delivered=delivered, read=read)]))
        if user in modelled.roles:
            head = len(modelled.messages)
            known = modelled.cursors.get(user, (0, 0))
            marks = (max(known[0], min(delivered or 0, head)), max(known[1], min(read or 0, head)))
            if any(marks):
                modelled.cursors[user] = marks

    # -- what must be the same at any time

    @rule(session=sessions, after=st.integers(-1, 8), limit=st.integers(0, 5))
    def read(self, session: str, after: int, limit: int) -> None:
        messages = self.model.sessions[session].messages
        later = [message for message in messages if message.seq > after]
        earlier = [message for message in messages if message.seq < after]
        assert self.run(self.log.read(session, after=after, limit=limit)) == later[:limit]
        page = earlier[-limit:] if limit else []
        assert self.run(self.log.read_before(session, before=after, limit=limit)) == page

    @invariant()
    def same_sessions(self) -> None:
        assert self.run(self.log.standings(list(self.model.sessions))) == {
            id: Standing(
                head=len(session.messages),
                version=session.version,
                epoch=session.epoch,
                end_reason=session.end_reason,
            )
            for id, session in self.model.sessions.items()
        }
        assert self.run(self.log.tallier([*self.model.sessions, NOWHERE])()) == Tally(
            sessions=len(self.model.sessions),
            steps=sum(len(s.messages) + s.version + s.epoch for s in self.model.sessions.values()),
        )
        for modelled, (found, members, cursors) in self.run(self._look_at_all()):
            assert found is not None
            assert (found.version, found.epoch, found.head) == (
                modelled.version,
                modelled.epoch,
                len(modelled.messages),
            )
            assert (found.title, found.status) == (modelled.title, modelled.status)
            assert (found.expires_at, found.end_reason) == (modelled.expires_at, modelled.end_reason)
            assert {member.user: member.role for member in members} == modelled.roles
            assert {c.user: (c.delivered, c.read) for c in cursors} == modelled.cursors

    async def _look_at_all(
        self,
    ) -> Iterable[tuple[Modelled, tuple[Session | None, list[Member], list[Cursor]]]]:
        """At the same time, as a node's clients ask."""

        async def look(id: str, tenant: str) -> tuple[Session | None, list[Member], list[Cursor]]:
            return await self.log.get(tenant, id), await self.log.members(id), await self.log.cursors(id)

        modelled = list(self.model.sessions.values())
        return zip(modelled, await asyncio.gather(*(look(m.id, m.tenant) for m in modelled)), strict=True)

    @invariant()
    def same_lists(self) -> None:
        whose = [(tenant, user) for tenant in TENANTS for user in USERS]
        for (tenant, user), listings in zip(whose, self.run(self._list_all(whose)), strict=True):
            theirs = [
                session
                for session in self.model.sessions.values()
                if session.tenant == tenant and user in session.roles and session.end_reason is None
            ]
            expected = [
                (
                    session.messages[-1].created_at if session.messages else NOW,
                    session.id,
                    session.messages[-1].content if session.messages else "",
                    len(session.messages) - session.cursors.get(user, (0, 0))[1],
                )
                for session in theirs
            ]
            found = [(row.last_at, row.session.id, row.preview, row.unread) for row in listings]
            assert found == sorted(expected, reverse=True)

    async def _list_all(self, whose: list[tuple[str, str]]) -> list[list[Listing]]:
        return await asyncio.gather(*(self.log.list_for(*each, before=None, limit=100) for each in whose))

    @invariant()
    def same_events(self) -> None:
        events = self.run(self.log.events(after=0, limit=10_000))
        for id, modelled in self.model.sessions.items():
            theirs = [event for event in events if event.session == id]
            assert [event.kind for event in theirs] == modelled.events
            assert [event.version for event in theirs] == list(range(1, len(theirs) + 1))


@pytest.mark.timeout(300)
def test_the_log_is_as_the_model(open_log: OpenLog) -> None:
    machine = type("Machine", (LogMachine,), {"open_log": staticmethod(open_log)})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=30))
