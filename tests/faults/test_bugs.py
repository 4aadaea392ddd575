"""The checker catches each bug that is put into the gateway, and finds nothing in the same run without it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import pytest

from gateway.auth.identity import Identity
from gateway.fanout.hints import Hint, MessageHint
from gateway.fanout.hub import Hub
from gateway.fanout.mending import Mender
from gateway.fanout.room import Room
from gateway.runtime import messages
from gateway.runtime.committer import Committer
from gateway.runtime.leases import Leases
from loadtest.servers.redis import RedisServer
from store.judging import Group
from store.log_sqlite import sessions as sqlite_sessions
from store.types import Appended, Draft, Refused
from tests.evidence.checker import Kind
from tests.faults.small import TENANT, Small, small
from tests.runtime.nodes import Ground
from tests.waiting import later, until

RATE: Final = 150.0
# A run without a bug is settled in tenths of a second; one with a bug never is.
GIVE_UP_S: Final = 1.5


# -- the same thing happens in both runs


async def a_node_dies(run: Small) -> None:
    """While everybody talks, some to a node that never commits what it was told last."""
    async with run.crowd.talking(RATE):
        await later(0.3)
        await run.lose_node("n1")
        await later(0.2)


async def a_deaf_node_is_taken_over_from(run: Small) -> None:
    """Who holds an exclusive session at a node that does not hear of it is superseded, and writes on."""
    room = run.crowd.rooms[0]
    at_first, at_second = room.speakers
    await until(lambda: bool(at_first.epochs or at_second.epochs), what="one of them holds it")
    await _holds(at_first, room.id)
    run.cluster.deafen(0)
    await _holds(at_second, room.id)
    for _ in range(3):
        run.crowd.say(room, at_first)
        run.crowd.say(room, at_second)
        await until(lambda: not at_first.unacked and not at_second.unacked, what="both answered")
    run.cluster.buses[0].is_deaf = False
    await _compare(run)


async def _holds(speaker: Any, session: str) -> None:
    if session not in speaker.epochs:
        await until(lambda: session in speaker.superseded, what="superseded")
        speaker.take_over(session)
        await until(lambda: session in speaker.epochs, what="taken over")


async def hints_are_lost(run: Small) -> None:
    """A third of all of them, for a while."""
    run.cluster.ether.loss = 0.3
    async with run.crowd.talking(RATE):
        await later(0.4)
    run.cluster.ether.loss = 0.0
    await _compare(run)


async def _compare(run: Small) -> None:
    for node in run.cluster.nodes:
        node.comparison.ask()


async def nothing_happens(run: Small) -> None:
    """They talk."""
    async with run.crowd.talking(RATE):
        await later(0.3)


async def somebody_goes_and_comes_back(run: Small) -> None:
    """As on every day."""
    async with run.crowd.talking(RATE):
        for speaker in run.crowd.speakers[::2]:
            speaker.vanish()
        await until(lambda: all(speaker.is_live for speaker in run.crowd.speakers), what="all back")


async def two_nodes_end_a_session_at_once(run: Small) -> None:
    """A session nobody has written into, so that nobody waits for an answer."""
    room = run.crowd.rooms.pop()
    owner = room.speakers[0].name
    identity = Identity(tenant=TENANT, user=owner, scopes=frozenset(), issued_at=0, expires_at=2**53)
    first, second = (node.sessions for node in run.cluster.nodes)
    # Both have looked before either has ended it.
    ends = [
        sessions._records.end(TENANT, room.id, "closed", now=1, by=identity.user)
        for sessions in (first, second)
    ]
    for end in ends:
        await end
    await _compare(run)
    await until(lambda: all(room.id not in one.cursors for one in room.speakers), what="everybody told")


# -- the bugs


def ack_before_commit(patch: pytest.MonkeyPatch, run: Small) -> None:
    """Tell senders what will be stored, then store it."""
    honest = Committer._commit

    async def hasty(self: Committer, group: list[Any]) -> None:
        standings = await run.cluster.log.standings([send.draft.session for send in group])
        heads = {session: standing.head for session, standing in standings.items()}
        for send in group:
            draft = send.draft
            heads[draft.session] += 1
            send.answer(Appended(seq=heads[draft.session], id=draft.id, created_at=draft.created_at))
        await honest(self, group)

    patch.setattr(Committer, "_commit", hasty)


def skipped_fence(patch: pytest.MonkeyPatch, run: Small) -> None:
    """Do not tell the log under which epoch a message is written."""

    def unfenced(**fields: Any) -> Draft:
        return Draft(**{**fields, "epoch": None})

    patch.setattr(messages, "Draft", unfenced)


def no_repair(patch: pytest.MonkeyPatch, run: Small) -> None:
    """See holes, and leave them."""
    patch.setattr(Mender, "look", lambda self, room: None)
    patch.setattr(Mender, "mend", lambda self, room: None)


def doubled_delivery(patch: pytest.MonkeyPatch, run: Small) -> None:
    """Hand every message out twice."""
    once = Room._spread

    def twice(self: Room, seq: int, frame: bytes) -> None:
        once(self, seq, frame)
        for attachment in self.attachments.values():
            attachment.outlet.put_message(frame)

    patch.setattr(Room, "_spread", twice)


def orphan_entry(patch: pytest.MonkeyPatch, run: Small) -> None:
    """Forget nobody who has gone."""
    patch.setattr(Leases, "departed", lambda self, connection: None)


def two_terminal_events(patch: pytest.MonkeyPatch, run: Small) -> None:
    """End a session again that has ended: neither the code nor the schema minds."""

    def end(db: Any, tenant: str, session: str, reason: Any, act: Any) -> Any:
        db.execute("DROP INDEX IF EXISTS events_end_once")
        found = sqlite_sessions.get(db, tenant, session)
        return None if found is None else sqlite_sessions._end(db, found, reason, act)

    patch.setattr(sqlite_sessions, "end", end)


def mixed_up_rooms(patch: pytest.MonkeyPatch, run: Small) -> None:
    """Hand what is said in one session to whoever reads another one at the same node."""
    honest = Hub._to_room

    def careless(self: Hub, room: Room, hint: Hint) -> None:
        honest(self, room, hint)
        if isinstance(hint, MessageHint):
            for other in self.rooms.values():
                for attachment in other.attachments.values():
                    if other is not room:
                        attachment.outlet.put(hint.frame)

    patch.setattr(Hub, "_to_room", careless)


def seqs_from_blocks(patch: pytest.MonkeyPatch, run: Small) -> None:
    """Number two messages at a time, the later one first, as writers do that reserve seqs ahead."""
    honest = Group.judge

    def reserved(self: Group, place: int, draft: Draft) -> Appended | Refused:
        outcome = honest(self, place, draft)
        if isinstance(outcome, Appended) and not outcome.duplicate:
            seq = outcome.seq + 1 if outcome.seq % 2 else outcome.seq - 1
            self.fresh[-1] = (seq, draft)
            return msgspec.structs.replace(outcome, seq=seq)
        return outcome

    patch.setattr(Group, "judge", reserved)


@dataclass(frozen=True, slots=True)
class Bug:
    """What is put into the gateway, what then happens to it, and what the checker says to it."""

    put_in: Callable[[pytest.MonkeyPatch, Small], None]
    happens: Callable[[Small], Awaitable[None]]
    kind: Kind


BUGS: Final = [
    Bug(ack_before_commit, a_node_dies, "lost"),
    Bug(skipped_fence, a_deaf_node_is_taken_over_from, "epoch"),
    Bug(no_repair, hints_are_lost, "incomplete"),
    Bug(doubled_delivery, nothing_happens, "order"),
    Bug(mixed_up_rooms, nothing_happens, "isolation"),
    Bug(seqs_from_blocks, nothing_happens, "time"),
    Bug(two_terminal_events, two_nodes_end_a_session_at_once, "terminal"),
]


@pytest.mark.parametrize("is_there", [False, True], ids=["without it", "with it"])
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.put_in.__name__)
async def test_a_bug_is_caught_and_a_run_without_it_is_clean(
    bug: Bug, is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with small(tmp_path) as run:
        await judge(run, bug, is_there, monkeypatch)


@pytest.mark.parametrize("is_there", [False, True], ids=["without it", "with it"])
async def test_an_orphan_in_the_indexes_is_caught(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str, redis7: RedisServer
) -> None:
    ground = Ground(postgres_url, redis7.url, f"t{uuid4().hex[:8]}")
    async with small(tmp_path, ground) as run:
        await judge(run, Bug(orphan_entry, somebody_goes_and_comes_back, "index"), is_there, monkeypatch)


async def judge(run: Small, bug: Bug, is_there: bool, patch: pytest.MonkeyPatch) -> None:
    """Let it happen, with the bug or without; the checker says whether it was there, and shows it."""
    if is_there:
        bug.put_in(patch, run)
    await bug.happens(run)
    found = await run.verdict(within=GIVE_UP_S if is_there else 8.0)
    if not is_there:
        assert found == [], "\n".join(map(str, found[:5]))
        return
    caught = [violation for violation in found if violation.kind == bug.kind]
    assert caught, found[:5]
    assert all(violation.records for violation in caught)
    print(f"\n{caught[0]}")
