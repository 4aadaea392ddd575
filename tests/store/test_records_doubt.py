"""Writes of which nobody knows whether they were committed, while others write and read."""

import asyncio
from typing import Any

import pytest

from store.errors import Unavailable
from store.records import INTENT_MS
from store.types import Change
from tests.store.making import NOW, opened
from tests.store.nodes import Bench, listed, warm
from tests.waiting import turns


class Cut:
    """A write that waits until it is let on, is committed, and loses its answer."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        write = getattr(bench.truth, name)

        async def cut(*given: Any, **more: Any) -> None:
            self.begun.set()
            await self.gate.wait()
            await write(*given, **more)
            raise Unavailable("the connection was lost between COMMIT and its answer")

        setattr(bench.log, name, cut)


async def test_an_end_whose_answer_is_lost_is_seen_though_somebody_else_wrote_in_between(
    bench: Bench,
) -> None:
    one, two = bench.node(), bench.node()
    session = await opened(bench.truth)
    cut = Cut(bench, "end")
    ending = asyncio.ensure_future(one.end("t", session.id, "closed", now=NOW))
    await cut.begun.wait()
    await two.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    cut.gate.set()
    with pytest.raises(Unavailable):
        await ending
    for _ in range(2):
        assert await two.get("t", session.id) == await bench.truth.get("t", session.id)
        bench.later(INTENT_MS)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_removal_that_took_long_and_lost_its_answer_is_seen_in_the_list(
    bench: Bench, is_cancelled: bool
) -> None:
    one, two = bench.node(), bench.node()
    session = await opened(bench.truth)
    await bench.truth.put_member("t", session.id, "bob", "writer", now=NOW)
    cut = Cut(bench, "remove_member")
    removing = asyncio.ensure_future(one.remove_member("t", session.id, "bob", now=NOW))
    await cut.begun.wait()
    bench.later(4_000)
    assert await listed(two, "bob") == [session.id]
    if is_cancelled:
        removing.cancel()
        await turns(3)
        await bench.truth.remove_member("t", session.id, "bob", now=NOW)
    cut.gate.set()
    await asyncio.wait([removing])
    for _ in range(2):
        await warm(two, session, "alice")
        assert await listed(two, "bob") == []
        bench.later(INTENT_MS + 1_000)
