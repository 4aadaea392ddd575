"""A hub between a log and its readers, both a list.

Whatever is lost, late or slow, each reader has it all, once, in order.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fanout import hints, mending
from gateway.fanout.comparison import Comparison
from gateway.fanout.hub import Hub
from gateway.fanout.room import Attachment
from gateway.protocol import replies
from store.bus import Bus
from store.errors import Unavailable
from store.log import Log, Tallier
from store.types import Access, Message, Session, Standing, Tally
from tests.waiting import later, turns, until

SESSION = "0192a000-0000-7000-8000-000000000001"


def message(seq: int) -> Message:
    return Message(
        session=SESSION,
        seq=seq,
        id=f"m{seq}",
        client_id=f"c{seq}",
        sender="a",
        role="user",
        content=f"text {seq}",
        metadata=b"{}",
        created_at=seq,
    )


class ListLog:
    """As much of a log as fan-out reads."""

    def __init__(self) -> None:
        self.head = 0
        self.is_away = False
        self.reads = 0

    async def read(self, session: str, *, after: int, limit: int) -> list[Message]:
        self.reads += 1
        await turns()
        if self.is_away:
            raise Unavailable("away")
        return [message(seq) for seq in range(after + 1, min(self.head, after + limit) + 1)]

    async def standings(self, sessions: list[str]) -> dict[str, Standing]:
        if self.is_away:
            raise Unavailable("away")
        return dict.fromkeys(sessions, Standing(head=self.head, version=1, epoch=1, end_reason=None))

    def tallier(self, sessions: list[str]) -> Tallier:
        async def tally() -> Tally:
            await turns()
            if self.is_away:
                raise Unavailable("away")
            return Tally(sessions=len(sessions), steps=len(sessions) * (self.head + 1 + 1))

        return tally


class Quiet:
    """A bus whose payloads the test delivers by hand."""

    async def subscribe(self, channel: str) -> None:
        pass

    async def unsubscribe(self, channel: str) -> None:
        pass


class Reader:
    """A reader with room for some frames; then it lags until it is drained."""

    def __init__(self, number: int) -> None:
        self.id = f"r{number}"
        self.user = "u"
        self.predecessor = None
        self.got: list[bytes] = []
        self.room = 1_000_000
        self.is_gone = False

    @property
    def outlet(self) -> "Reader":
        return self

    @property
    def lagging(self) -> bool:
        return self.room <= 0

    def put(self, frame: bytes) -> None:
        if b'"live"' not in frame:
            self.got.append(frame)

    def put_message(self, frame: bytes) -> bool:
        if self.lagging:
            return False
        self.room -= 1
        self.got.append(frame)
        return True

    def put_ephemeral(self, frame: bytes) -> bool:
        return not self.lagging

    def hasten(self, deadline: float) -> None:
        raise AssertionError("fan-out knows no deadlines")

    def close(self, code: int, reason: str = "") -> None:
        raise AssertionError("nobody is sent away here")

    def left(self, session: str) -> None:
        self.is_gone = True


class Play:
    """One run of a plan."""

    def __init__(self) -> None:
        self.log = ListLog()
        self.tasks: set[asyncio.Task[None]] = set()
        self.hub = Hub(cast(Log, self.log), cast(Bus, Quiet()), self.spawn, time.monotonic)
        self.comparison = Comparison(cast(Log, self.log), self.hub, self.hub.mender, lambda: False)
        self.late: list[int] = []
        self.readers: list[tuple[Reader, Attachment, int]] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def look(self) -> Access:
        session = Session(
            id=SESSION, tenant="t", owner="a", title="", status="active", exclusive=False, ttl_s=None,
            expires_at=None, head=self.log.head, epoch=1, version=1, context=b"{}", metadata=b"{}", text=None,
            voice=None, sentences=None, created_at=0, updated_at=0,
        )  # fmt: skip
        return Access(session=session, role="reader")

    def hint(self, seq: int) -> None:
        payload = hints.encode(hints.MessageHint(seq, replies.message(message(seq))))
        self.hub.receive(hints.session_channel(SESSION), payload)

    async def act(self, kind: str, amount: int) -> None:
        match kind:
            case "commit":
                for _ in range(amount):
                    self.log.head += 1
                    self.hint(self.log.head)
            case "lose":
                self.log.head += amount
            case "delay":
                self.log.head += 1
                self.late.append(self.log.head)
            case "arrive":
                while self.late and amount:
                    self.hint(self.late.pop())
                    amount -= 1
            case "attach":
                await self.attach(amount)
            case "stall" if self.readers:
                self.readers[amount % len(self.readers)][0].room = amount % 5
            case "drain" if self.readers:
                reader, attachment, _ = self.readers[amount % len(self.readers)]
                reader.room = 20 + amount
                self.hub.catch_up(attachment)
            case "away":
                self.log.is_away = True
            case "back":
                self.log.is_away = False
            case "compare" if not self.log.is_away:
                await self.comparison.compare()
            case "wait":
                await turns(amount)

    async def attach(self, back: int) -> None:
        room, access = await self.hub.open(SESSION, self.look)
        room.relay.heard(access.session.head)
        self.hub.mender.look(room)
        reader = Reader(len(self.readers))
        cursor = max(0, access.session.head - back)
        attachment = self.hub.attach(room, reader, cursor, access, None)
        self.readers.append((reader, attachment, cursor))
        self.hub.catch_up(attachment)

    def lacking(self) -> list[str]:
        return [reader.id for reader, _, start in self.readers if len(reader.got) < self.log.head - start]

    async def settle(self) -> None:
        self.log.is_away = False
        if self.readers:
            await self.comparison.compare()

        def complete() -> bool:
            for reader, attachment, _ in self.readers:
                reader.room = 1_000_000
                self.hub.catch_up(attachment)
            return not self.lacking()

        await until(complete, within=5, what="every reader to be complete")

    async def stop(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)


STEPS = st.tuples(
    st.sampled_from(
        [
            "commit",
            "commit",
            "lose",
            "delay",
            "arrive",
            "attach",
            "stall",
            "drain",
            "away",
            "back",
            "compare",
            "wait",
        ]
    ),
    st.integers(1, 40),
)


async def run(plan: list[tuple[str, int]]) -> None:
    play = Play()
    try:
        await play.attach(0)
        for kind, amount in plan:
            await play.act(kind, amount)
        await play.settle()
        for reader, attachment, start in play.readers:
            assert reader.got == [
                replies.message(message(seq)) for seq in range(start + 1, play.log.head + 1)
            ]
            assert attachment.replay.is_live
    finally:
        await play.stop()


@given(st.lists(STEPS, max_size=40))
@settings(max_examples=150)
def test_every_reader_has_everything_once_and_in_order(plan: list[tuple[str, int]]) -> None:
    asyncio.run(run(plan))


async def test_a_hole_too_large_to_fill_is_left_to_the_readers() -> None:
    await run([("commit", 5), *[("lose", 40)] * 10, ("compare", 1), ("commit", 3)])


async def test_a_large_hole_at_the_very_end_is_found_too() -> None:
    await run([("commit", 5), *[("lose", 40)] * 10])


async def test_a_hole_that_closes_in_time_is_not_read_even_if_another_has_opened_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mending, "PATIENCE_S", 0.1)
    play = Play()
    await play.attach(0)
    reader, _, _ = play.readers[0]
    play.log.head = 6
    play.hint(2)
    await later(0.05)
    play.hint(1)
    play.hint(4)
    await later(0.08)  # by now the patience with the first hole is over
    assert (len(reader.got), play.log.reads) == (2, 0)
    play.hint(3)
    assert (len(reader.got), play.log.reads) == (4, 0)
    play.hint(6)
    await until(lambda: len(reader.got) == 6, within=1.0)
    assert play.log.reads == 1
    await play.stop()


async def test_a_hole_has_one_timer_however_many_hints_come_behind_it() -> None:
    play = Play()
    await play.attach(0)
    timers = 0
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def counted(*given: Any, **more: Any) -> asyncio.TimerHandle:
        nonlocal timers
        timers += given[1] == play.hub.mender._lose_patience
        return call_later(*given, **more)

    loop.call_later = counted  # type: ignore[method-assign, assignment]
    try:
        for seq in range(2, 200):
            play.hint(seq)
    finally:
        loop.call_later = call_later  # type: ignore[method-assign]
    assert timers == 1
    await play.stop()
