"""Many resume at once: so many a second; some wait, and the others are told when, and lose nothing by it."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from gateway.runtime.line import HOLD_S
from tests.runtime.world import Client, World, world
from tests.waiting import until


async def _lost(here: World, count: int) -> list[str]:
    """Connections that are lost, each of a user with a session; their resume tokens."""
    tokens = []
    for n in range(count):
        client = here.connect()
        tokens.append((await client.hello(f"user-{n}"))["resume"])
        await client.open(title=f"of user-{n}")
        client.vanish()
    return tokens


async def _back(here: World, n: int, token: str, **fields: Any) -> tuple[Client, dict[str, Any]]:
    client = here.connect()
    return client, await client.hello(f"user-{n}", resume=token, **fields)


async def _all_back(here: World, tokens: list[str]) -> list[tuple[Client, dict[str, Any]]]:
    return await asyncio.gather(*(_back(here, n, token) for n, token in enumerate(tokens)))


async def test_those_who_resume_wait_for_a_moment_or_are_told_when_to_come(tmp_path: Path) -> None:
    async with world(tmp_path, resumes_per_s=4) as here:
        tokens = await _lost(here, 12)
        answers = await _all_back(here, tokens)
        welcomed = [answer for _, answer in answers if answer["type"] == "welcome"]
        assert len(welcomed) == 1 + math.ceil(4 * HOLD_S)
        assert all(answer["resumed"] for answer in welcomed)
        put_off = [(client, answer) for client, answer in answers if answer["type"] == "error"]
        assert {(answer["code"], answer["retryable"]) for _, answer in put_off} == {("unavailable", True)}
        assert [await client.closed() for client, _ in put_off] == [4005] * len(put_off)
        # One after the other, at the rate. They have come in the same moment, or nearly.
        told = sorted(answer["retry_after_ms"] for _, answer in put_off)
        assert [wait - told[0] for wait in told] == pytest.approx([0, 250, 500, 750, 1000], abs=120)
        assert (here.node.resumes.admitted, here.node.resumes.put_off) == (7, 5)


async def test_the_token_of_who_was_put_off_stays_good(tmp_path: Path) -> None:
    async with world(tmp_path, resumes_per_s=4) as here:
        tokens = await _lost(here, 12)
        answers = await _all_back(here, tokens)
        late = [n for n, (_, answer) in enumerate(answers) if answer["type"] == "error"]
        for n in late:
            client, welcome = await _back(here, n, tokens[n])
            assert welcome["resumed"]
            assert (await client.next("attached"))["title"] == f"of user-{n}"


async def test_who_brings_no_resume_token_does_not_wait_behind_those_who_do(tmp_path: Path) -> None:
    async with world(tmp_path, resumes_per_s=1) as here:
        tokens = await _lost(here, 4)
        waiting = [asyncio.create_task(_back(here, n, token)) for n, token in enumerate(tokens)]
        await until(lambda: here.node.resumes.is_full)
        await here.client("somebody-new")
        assert here.node.resumes.is_full
        await asyncio.gather(*waiting)


async def test_who_goes_away_in_the_line_uses_neither_a_place_nor_its_token(tmp_path: Path) -> None:
    async with world(tmp_path, resumes_per_s=1) as here:
        tokens = await _lost(here, 2)
        await _back(here, 0, tokens[0])
        gone = here.connect()
        gone.say("hello", token=here.tokens.mint("user-1"), resume=tokens[1])
        await until(lambda: here.node.resumes.waiting == 1)
        gone.vanish()
        _, welcome = await _back(here, 1, tokens[1])
        assert welcome["resumed"]
        assert here.node.resumes.admitted == 2


async def test_a_ticket_is_not_spent_by_who_is_put_off(tmp_path: Path) -> None:
    async with world(tmp_path, resumes_per_s=1) as here:
        tokens = await _lost(here, 5)
        waiting = [asyncio.create_task(_back(here, n, token)) for n, token in enumerate(tokens[:4])]
        await until(lambda: here.node.resumes.is_full)
        identity = await here.tokens.verify(here.tokens.mint("user-4"))
        ticket, _ = await here.tickets.issue(identity)
        put_off = here.connect()
        put_off.say("hello", ticket=ticket, resume=tokens[4])
        assert (await put_off.next("welcome", "error"))["code"] == "unavailable"
        await asyncio.gather(*waiting)
        back = here.connect()
        back.say("hello", ticket=ticket, resume=tokens[4])
        assert (await back.next("welcome", "error"))["type"] == "welcome"


async def test_a_node_that_stops_leaves_nobody_in_the_line(tmp_path: Path) -> None:
    async with world(tmp_path, resumes_per_s=1) as here:
        tokens = await _lost(here, 2)
        await _back(here, 0, tokens[0])
        late = here.connect()
        late.say("hello", token=here.tokens.mint("user-1"), resume=tokens[1])
        await until(lambda: here.node.resumes.waiting == 1)
        await here.node.tasks.stop()
        assert await late.closed() == 4000
        await until(lambda: here.node.resumes.waiting == 0)
        assert here.node.resumes.admitted == 1
