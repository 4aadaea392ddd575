"""A live store that takes its time: what happens between its question and its answer."""

import asyncio
from pathlib import Path
from typing import Any

from store.types import Mark
from tests.runtime.world import world
from tests.waiting import turns, until


async def test_a_token_used_while_its_last_word_is_written_is_not_good_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = w.connect()
        token = (await alice.hello())["resume"]
        await alice.open()
        forget = w.node.live.forget
        reached, go = asyncio.Event(), asyncio.Event()

        async def slow(entries: Any) -> None:
            reached.set()
            await go.wait()
            await forget(entries)

        w.node.live.forget = slow  # type: ignore[method-assign]
        alice.vanish()
        await reached.wait()  # the flush is on its way
        first = w.connect()
        first.say("hello", token=w.tokens.mint("alice"), resume=token)
        await turns(20)
        w.node.live.forget = forget  # type: ignore[method-assign]
        go.set()
        assert (await first.next("welcome"))["resumed"] is True
        await first.next("live")
        assert (await w.connect().hello(resume=token))["resumed"] is False


async def test_marks_of_a_flush_that_a_stop_cut_short_are_stored_all_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.client()
        session = await alice.open()
        await alice.send(session, "one")
        mark = w.node.log.mark
        reached = asyncio.Event()
        stored: list[Mark] = []

        async def stuck(marks: Any) -> None:
            reached.set()
            await asyncio.Event().wait()

        async def works(marks: Any) -> None:
            stored.extend(marks)
            await mark(marks)

        w.node.log.mark = stuck  # type: ignore[method-assign]
        alice.say("read", session=session, seq=1)
        await reached.wait()
        w.node.log.mark = works  # type: ignore[method-assign]
        await w.node.tasks.stop()
        await w.node.leases.flush()
        await until(lambda: [m.read for m in stored] == [1])


async def test_a_token_asserted_while_it_is_used_is_not_good_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        old = w.connect()
        token = (await old.hello())["resume"]
        await old.open()
        take = w.node.live.take_once
        reached, go = asyncio.Event(), asyncio.Event()

        async def slow(kind: Any, digest: str) -> Any:
            value = await take(kind, digest)
            reached.set()
            await go.wait()
            return value

        w.node.live.take_once = slow  # type: ignore[method-assign]
        new = w.connect()
        new.say("hello", token=w.tokens.mint("alice"), resume=token)
        await reached.wait()
        w.node.leases.changed(old.connection)
        await w.node.leases.flush()
        w.node.live.take_once = take  # type: ignore[method-assign]
        go.set()
        assert (await new.next("welcome"))["resumed"] is True
        assert (await w.connect().hello(resume=token))["resumed"] is False
