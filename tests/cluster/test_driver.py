"""The driver itself: its clients come back, and notice whatever was meant for somebody else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.cluster.speaker import Speaker
from tests.cluster.trial import Size, trial
from tests.cluster.under_way import Asked
from tests.cluster.wire import Frame, Wire
from tests.evidence.history import History
from tests.evidence.timing import Spread, ack_delays
from tests.waiting import later


async def test_a_crowd_that_vanishes_and_comes_back_has_everything(tmp_path: Path) -> None:
    async with trial(tmp_path, None, Size(clients=24, sessions=6, nodes=1)) as run:
        async with run.crowd.talking(100):
            await later(0.5)
            for speaker in run.crowd.speakers[::2]:
                speaker.vanish()
            await later(1.0)
        assert len(run.crowd.losses) == 12
        sent = run.crowd.sent
        assert await run.verdict() == []
    assert Spread.of(ack_delays(run.history.records)).count == sent > 50
    assert any(speaker.signals for speaker in run.crowd.speakers)


@pytest.fixture
async def speaker(tmp_path: Path) -> AsyncIterator[Speaker]:
    """One that takes itself for connected and attached to s1, and no socket behind it."""
    history = History(tmp_path / "history.jsonl")
    made = Speaker("ann", "token", lambda: "ws://nowhere", history, Random(1))  # noqa: S311
    made.join("s1", "Room 1")
    made.fellows["s1"] = {"ann", "bob"}
    made._wire = Wire(made)
    tell(made, type="welcome", user="ann", **WELCOME)
    tell(made, type="attached", session="s1", since=0, title="Room 1")
    assert made.strays == []
    yield made
    history.close()


def tell(speaker: Speaker, **frame: Any) -> None:
    assert speaker._wire is not None
    speaker.hear(speaker._wire, frame)


WELCOME = {"connection": "c1", "node": "n1", "resume": "r", "heartbeat": {"interval_ms": 9}}
MESSAGE = {"sender": "bob", "client_id": "bob-1", "role": "user", "metadata": {}}
STRAYS: list[tuple[str, Callable[[Speaker], None]]] = [
    ("welcomed as somebody else", lambda s: tell(s, type="welcome", user="bob", **WELCOME)),
    ("does not want", lambda s: tell(s, type="attached", session="s2", since=0, title="Room 2")),
    ("attached elsewhere", lambda s: tell(s, type="attached", session="s1", since=3, title="Room 1")),
    ("another session's title", lambda s: tell(s, type="attached", session="s1", since=0, title="Room 2")),
    ("not attached to", lambda s: tell(s, type="message", session="s2", seq=1, content="s2 x", **MESSAGE)),
    ("a message of another", lambda s: tell(s, type="message", session="s1", seq=1, content="s2", **MESSAGE)),
    ("never said", lambda s: tell(s, type="ack", id="bob-1", session="s1", seq=1, duplicate=False)),
    ("no request of its own", lambda s: tell(s, type="history", id="bob?1", session="s1", messages=[])),
    ("about nothing", lambda s: tell(s, type="error", code="not_found", retryable=False)),
    ("no heartbeat of its own", lambda s: tell(s, type="heartbeat", ts=1, sessions={})),
    ("event of another", lambda s: tell(s, type="session", session="s2", event="updated")),
    ("signal of another", lambda s: tell(s, type="signal", session="s2", data={"at": 0.0, "node": "n1"})),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "say"), STRAYS, ids=[sentence for sentence, _ in STRAYS])
async def test_what_is_meant_for_somebody_else_is_noticed(
    sentence: str, say: Callable[[Speaker], None], speaker: Speaker
) -> None:
    say(speaker)
    assert any(sentence in stray for stray in speaker.strays), speaker.strays


@pytest.mark.parametrize("has_asked", [True, False], ids=["its own", "another's"])
async def test_what_a_resume_gives_back_is_its_own_if_it_had_asked_for_it(
    has_asked: bool, speaker: Speaker
) -> None:
    tell(speaker, type="session", session="s1", event="superseded")
    if has_asked:
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(asyncio.Future.exception)
        speaker._asked_for["ann?1"] = Asked("attach", "s1", 0, answer)
    assert speaker._wire is not None
    speaker._gone(speaker._wire, "lost before the answer")
    speaker._wire = Wire(speaker)
    tell(speaker, type="welcome", user="ann", **WELCOME)
    tell(speaker, type="attached", session="s1", since=0, title="Room 1")
    assert [("took over" in stray) for stray in speaker.strays] == ([] if has_asked else [True])
