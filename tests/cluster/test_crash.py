"""A node is killed, stopped for long, or started again at once: everything is true again within 15 s."""

import asyncio
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.speaker import Speaker
from tests.cluster.trial import GONE, Size, Trial, trial
from tests.cluster.truth import until_true
from tests.cluster.wire import Frame, Wire
from tests.cluster.world import Ground
from tests.evidence.history import Record
from tests.waiting import later, until

# DESIGN, promise 6.
TRUE_WITHIN_S: Final = 15.0
SIZE: Final = Size(clients=45, sessions=15)
RATE: Final = 40.0
# A lease of 10 s, renewed every 2.
FOUND_AFTER_S: Final = 8.0
# Clients that come back while what they left is being cleaned up.
STORM_AFTER_S: Final = 9.0


# What each client was told of the coming and going of others, by its name.
PRESENCES: Final[defaultdict[str, list[Frame]]] = defaultdict(list)


@pytest.fixture(autouse=True)
def presences(monkeypatch: pytest.MonkeyPatch) -> None:
    PRESENCES.clear()
    hear = Speaker.hear

    def heard(speaker: Speaker, wire: Wire, frame: Frame) -> None:
        if frame["type"] == "presence" and "id" not in frame:
            PRESENCES[speaker.name].append(frame)
        hear(speaker, wire, frame)

    monkeypatch.setattr(Speaker, "hear", heard)


def desert(run: Trial, node: str) -> tuple[list[Speaker], list[Speaker]]:
    """Of those at a node, the third that never comes back when it dies, and the others."""
    there = [speaker for speaker in run.crowd.speakers if speaker.node == node]
    lost = there[::3]
    for room in run.crowd.rooms:
        room.speakers = [speaker for speaker in room.speakers if speaker not in lost]
    run.crowd.speakers = [speaker for speaker in run.crowd.speakers if speaker not in lost]
    return lost, [speaker for speaker in there if speaker not in lost]


def told(speaker: Speaker, session: str, user: str) -> list[str]:
    """What a client was told of a user's coming and going."""
    heard = PRESENCES[speaker.name]
    return [f["event"] for f in heard if (f["session"], f["user"]) == (session, user)]


async def true_since(run: Trial, died: float) -> float:
    """Wait until every index equals the truth; after how many seconds it did."""
    await until_true(run.world, run.crowd, GONE, within=died + TRUE_WITHIN_S - time.monotonic())
    return time.monotonic() - died


def leaves(run: Trial, who: Sequence[Speaker]) -> Counter[int]:
    """How often each of their fellows was told that one of these has left."""
    return Counter(
        told(fellow, session, one.name).count("leave")
        for one in who
        for session in one.cursors
        for fellow in run.crowd.speakers
        if fellow is not one and session in fellow.cursors
    )


@pytest.mark.timeout(150)
@pytest.mark.parametrize("returns_after", [0.0, STORM_AFTER_S], ids=["at once", "in the middle of it"])
async def test_fifteen_seconds_after_a_kill_every_index_is_true(
    tmp_path: Path, ground: Ground, returns_after: float
) -> None:
    async with trial(tmp_path, ground, SIZE) as run:
        first, _, last = run.world.nodes
        lost, back = desert(run, "n3")
        try:
            async with run.crowd.talking(RATE):
                await later(1.0)
                for speaker in () if returns_after else back:
                    speaker.home = lambda: first.ws_url
                await last.kill()
                died = time.monotonic()
                await later(returns_after)
                for speaker in back:
                    speaker.home = lambda: first.ws_url
                await until(lambda: all(one.node == "n1" and one.is_live for one in back), within=12)
                took = await true_since(run, died)
                await until(lambda: set(leaves(run, lost)) == {1}, within=2, what="leaves are told")
        finally:
            await asyncio.gather(*(speaker.leave() for speaker in lost))
        assert await run.verdict() == []
        # Nobody was told a second time, and of those who came back in time nobody was told at all.
        assert set(leaves(run, lost)) == {1}
        for one in back:
            for session in one.cursors:
                for fellow in run.crowd.speakers:
                    events = told(fellow, session, one.name)
                    assert events[-1:] != ["leave"], one.name
                    assert returns_after or "leave" not in events, one.name
    print(f"\nkilled: indexes true after {took:.1f} s, leaves of {len(lost)} told once")


@pytest.mark.timeout(150)
async def test_a_node_that_is_back_at_once_under_its_name_keeps_what_is_new(
    tmp_path: Path, ground: Ground
) -> None:
    async with trial(tmp_path, ground, SIZE) as run:
        last = run.world.nodes[-1]
        lost, back = desert(run, "n3")
        try:
            async with run.crowd.talking(RATE):
                for speaker in lost:
                    speaker._is_wanted = False
                await last.kill()
                died = time.monotonic()
                await last.start()
                await until(lambda: all(one.node == "n3" and one.is_live for one in back), within=10)
                back_s = time.monotonic() - died
                took = await true_since(run, died)
                await until(lambda: set(leaves(run, lost)) == {1}, within=2, what="leaves are told")
                # And stays so: nothing of the new life is taken for the old one's.
                await later(3.0)
                await until_true(run.world, run.crowd, GONE, within=1.0)
                assert sum(await run.world.metric("gateway_nodes_lost_total")) == 1
                assert sum(await run.world.metric("gateway_node_returns_total")) == 0
        finally:
            await asyncio.gather(*(speaker.leave() for speaker in lost))
        assert await run.verdict() == []
        # Where it took longer to start than to be found lost, they were gone for a moment.
        assert back_s > FOUND_AFTER_S or set(leaves(run, back)) == {0}
        print(f"\nrestarted at once: indexes true after {took:.1f} s")


class Solo:
    """One client with one connection, which notes what it hears."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.frames: list[Frame] = []
        self.wire = Wire(self)

    async def enter(self, url: str, *sessions: str) -> None:
        await self.wire.open(url)
        attach = [{"session": session, "since": 0} for session in sessions]
        self.wire.say({"type": "hello", "token": self.token, "attach": attach})
        await until(lambda: self.count("live") == len(sessions) and self.count("welcome") == 1)

    def count(self, kind: str) -> int:
        return sum(frame["type"] == kind for frame in self.frames)

    def send(self, session: str, text: str) -> None:
        self.wire.say({"type": "send", "id": text, "session": session, "content": text})

    def hear(self, wire: Wire, frame: Frame) -> None:
        self.frames.append(frame)

    def lost(self, wire: Wire) -> None:
        """Its wire knows the code."""

    def failed(self, error: Exception) -> None:
        raise error


def said_by_a_zombie(records: Sequence[Record], who: Sequence[Speaker], woken: float) -> list[Record]:
    """What these were sent since by connections from before."""
    found: list[Record] = []
    for name in {one.name for one in who}:
        for record in (each for each in records if each.client == name and each.at >= woken):
            if record.op == "attach":
                break
            if record.op in ("ack", "deliver"):
                found.append(record)
    return found


@pytest.mark.timeout(180)
async def test_a_node_that_was_stopped_for_20_s_serves_nobody_before_it_has_registered_anew(
    tmp_path: Path, ground: Ground
) -> None:
    async with trial(tmp_path, ground, SIZE) as run:
        first, _, zombie = run.world.nodes
        there = [speaker for speaker in run.crowd.speakers if speaker.node == "n3"]
        moving, staying = there[::3], [one for n, one in enumerate(there) if n % 3]
        one, other = Solo(zombie.token("solo")), Solo(zombie.token("solo"))
        await one.enter(zombie.ws_url)
        one.wire.say({"type": "open", "id": "o", "persistent": True, "exclusive": True})
        await until(lambda: one.count("live") == 1)
        exclusive = next(f["session"] for f in one.frames if f["type"] == "attached")
        one.send(exclusive, f"{exclusive} first")
        await until(lambda: one.count("ack") == 1)
        async with run.crowd.talking(RATE):
            await later(1.0)
            os.kill(zombie.pid, signal.SIGSTOP)
            stopped = time.monotonic()
            one.send(exclusive, f"{exclusive} stale")
            for speaker in moving:
                speaker.home = lambda: first.ws_url
                speaker.vanish()
            await other.enter(first.ws_url, exclusive)
            other.send(exclusive, f"{exclusive} second")
            await until(lambda: all(one.is_live and one.node == "n1" for one in moving), within=10)
            await later(20.0 - (time.monotonic() - stopped))
            woken = time.monotonic()
            os.kill(zombie.pid, signal.SIGCONT)
            await until(lambda: all(each.losses for each in staying), within=5, what="all are closed")
            await until(lambda: not one.wire.is_open, within=5)
            closed_s = time.monotonic() - woken
            await until(lambda: all(each.is_live for each in staying), within=10, what="all are back")
        assert {each.losses[0][:4] for each in staying} == {"4003"}
        assert one.wire.close_code == 4003
        # Whoever waited in its sockets was not served: no ack, no message, nothing.
        assert said_by_a_zombie(run.history.records, staying, woken) == []
        assert one.count("ack") == 1
        assert await run.world.metric("gateway_fences_total") == [0, 0, 1]
        assert sum(await run.world.metric("gateway_nodes_lost_total")) == 1
        other.send(exclusive, f"{exclusive} third")
        await until(lambda: other.count("ack") == 2)
        texts = [f["content"].split()[1] for f in other.frames if f["type"] == "message"]
        assert texts == ["first", "second", "third"]
        other.wire.close()
        await until(lambda: not other.wire.is_open)
        assert set(leaves(run, moving)) == {0}
        # The history knows nothing of this one.
        assert [each for each in await run.verdict() if exclusive not in str(each)] == []
        await run.until_nothing_is_left()
        print(f"\nstopped for 20 s: all closed with 4003 {closed_s:.2f} s after it went on")
