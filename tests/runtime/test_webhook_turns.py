"""Nodes that deliver are cancelled, killed, put to sleep: one delivers at a time, no event is left out."""

import asyncio
from random import Random

import pytest

from gateway.runtime import webhook as webhook_module
from gateway.runtime.webhook import Webhook
from tests.runtime.receiver import cut, hang, status
from tests.runtime.stage import Stage
from tests.waiting import later, until


async def test_who_is_cancelled_in_the_middle_of_a_request_loses_nothing(stage: Stage) -> None:
    ids = await stage.happen(3)
    stage.receiver.plan = [hang]
    node = stage.node()
    task = asyncio.ensure_future(node.deliver())
    await until(lambda: len(stage.receiver.requests) == 1)
    task.cancel()
    await asyncio.wait([task])
    await node.finish()
    await stage.node("n2").deliver()
    assert stage.receiver.taken == ids * 2


@pytest.mark.parametrize("seed", range(4))
async def test_whenever_it_is_cancelled_every_event_comes_in_order(
    stage: Stage, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_module, "BATCH", 3)
    chance = Random(seed)  # noqa: S311 - when it happens
    ids = await stage.happen(40)
    name = 0
    while not stage.receiver.requests or stage.receiver.taken[-1] != ids[-1]:
        stage.receiver.plan = [chance.choice([status(200), status(200), status(500), cut])]
        node = stage.node(f"n{name}")
        name += 1
        task = asyncio.ensure_future(node.deliver())
        # Later and later, so that it comes to an end on a machine of any speed.
        await later(chance.random() * 0.003 * (9 + name))
        task.cancel()
        await asyncio.wait([task])
        await node.finish()
    await stage.node("last").deliver()
    seen: list[int] = []
    for request in stage.receiver.requests:
        assert request.ids[0] <= (seen[-1] if seen else 0) + 1, "nothing is left out"
        seen += [id for id in request.ids if not seen or id > seen[-1]]
    assert seen == ids


async def test_of_two_nodes_one_delivers_and_the_other_takes_over_when_it_stops(stage: Stage) -> None:
    ids = await stage.happen(5)
    one, two = stage.node("n1"), stage.node("n2")
    await asyncio.gather(one.deliver(), two.deliver())
    assert stage.receiver.taken == ids
    assert {one.state, two.state} == {"delivering", "standby"}
    holder, other = (one, two) if one.state == "delivering" else (two, one)
    ids = await stage.happen(5)
    await other.deliver()
    assert len(stage.receiver.taken) == 5
    await holder.finish()
    await other.deliver()
    assert stage.receiver.taken == ids
    assert (holder.state, other.state) == ("standby", "delivering")


async def test_another_node_takes_over_from_one_that_was_killed(stage: Stage, short_turn: None) -> None:
    ids = await stage.happen(2)
    killed, other = stage.node("n1"), stage.node("n2")
    await killed.deliver()
    ids = await stage.happen(2)

    async def took_over() -> bool:
        await other.deliver()
        return other.state == "delivering"

    await until(took_over)
    # What the killed one had not told of yet came again; nothing is missing.
    assert sorted(set(stage.receiver.taken)) == ids
    assert stage.receiver.taken[-1] == ids[-1]


async def test_a_node_that_slept_past_its_turn_may_repeat_and_skips_nothing(
    stage: Stage, short_turn: None
) -> None:
    await stage.happen(3)
    stage.receiver.plan = [hang]
    sleeper, other = stage.node("n1"), stage.node("n2")
    asleep = asyncio.ensure_future(sleeper.deliver())
    await until(lambda: len(stage.receiver.requests) == 1)

    async def took_over() -> bool:
        await other.deliver()
        return other.delivered == 3

    await until(took_over)
    asleep.cancel()
    await asyncio.wait([asleep])
    await sleeper.finish()
    assert sleeper.state == "standby"
    ids = await stage.happen(2)
    await other.deliver()
    assert stage.receiver.taken == [*ids[:3], *ids]


async def test_who_has_lost_the_turn_sends_nothing_more(stage: Stage, short_turn: None) -> None:
    await stage.happen(1)
    one, two = stage.node("n1"), stage.node("n2", timeout_s=1000.0)
    await one.deliver()

    async def took_over() -> bool:
        await two.deliver()
        return two.state == "delivering"

    await until(took_over)
    await stage.happen(1)
    stage.clock.pass_s(1)
    await one.deliver()
    assert (one.state, len(stage.receiver.requests)) == ("standby", 1)


async def test_a_turn_is_not_written_anew_each_second(stage: Stage) -> None:
    node = stage.node()
    await node.deliver()
    before = stage.log.queries["hold_delivery"]
    for _ in range(7):
        stage.clock.pass_s(1)
        await node.deliver()
    assert stage.log.queries["hold_delivery"] == before
    stage.clock.pass_s(1)
    await node.deliver()
    assert stage.log.queries["hold_delivery"] == before + 1


async def test_without_an_address_nothing_is_done(stage: Stage) -> None:
    await stage.happen(1)
    node = Webhook(None, stage.log, stage.clock, "n1")
    await node.deliver()
    await node.finish()
    assert node.state == "off"
    assert stage.log.queries["hold_delivery"] == 0
