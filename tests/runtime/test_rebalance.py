"""Nodes share their connections out anew: the surplus moves, once each, and it ends whatever clients do."""

import asyncio
import itertools
from contextlib import suppress
from typing import Any

import pytest

from gateway.runtime import escort as escort_module
from gateway.runtime import migrations as migrations_module
from gateway.runtime import rebalance as rebalance_module
from store.errors import Unavailable
from store.types import NodeEntry
from tests.runtime.conftest import Place
from tests.runtime.movers import Mover, mover
from tests.runtime.nodes import Cluster
from tests.waiting import until


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the pace."""
    monkeypatch.setattr(migrations_module, "TICK_S", 0.02)
    monkeypatch.setattr(rebalance_module, "DRY_S", 0.5)
    monkeypatch.setattr(rebalance_module, "MARGIN_S", 3.0)
    for module in (escort_module, rebalance_module):
        monkeypatch.setattr(module, "CALM_PER_S", 100.0)
        monkeypatch.setattr(module, "GONE_S", 0.5)


class Crowd:
    """Clients that move whenever they are asked, each by a task of its own."""

    def __init__(self, movers: list[Mover]) -> None:
        self.movers = movers
        self.moves = dict.fromkeys(movers, 0)
        self._tasks = [asyncio.create_task(self._obey(each)) for each in movers]

    async def _obey(self, each: Mover) -> None:
        while True:
            with suppress(AssertionError):  # nobody has asked for 5 s
                await each.move()
                self.moves[each] += 1

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


async def settled(cluster: Cluster) -> list[int]:
    """Have the register know who is where."""
    for node in cluster.nodes:
        await node.leases.flush()
        await node.lease.renew()
    return [len(node.connections) for node in cluster.nodes]


async def over(cluster: Cluster, at: int = 0, within: float = 15.0) -> dict[str, Any]:
    told: dict[str, Any] = {}

    async def is_over() -> bool:
        nonlocal told
        told = await cluster.nodes[at].moves.evened_out()
        return bool(told["state"] != "running")

    await until(is_over, within=within, what="the nodes are even")
    return told


async def test_after_a_node_has_come_each_has_its_share_and_nobody_was_moved_twice(place: Place) -> None:
    async with place(3) as cluster:
        movers = [await mover(cluster, n % 2, f"u{n}") for n in range(24)]
        assert await settled(cluster) == [12, 12, 0]
        crowd = Crowd(movers)
        try:
            begun = await cluster.nodes[1].moves.even_out()
            assert (begun["state"], begun["to_move"], begun["before"]) == (
                "running",
                8,
                {"n1": 12, "n2": 12, "n3": 0},
            )
            done = await over(cluster, at=0)
        finally:
            await crowd.end()
        assert (done["state"], done["moved"], done["refused"], done["timed_out"]) == ("done", 8, 0, 0)
        assert (done["not_asked"], done["waiting"], done["node"]) == (0, 0, "n2")
        assert await settled(cluster) == [8, 8, 8]
        assert sorted(crowd.moves.values()) == [0] * 16 + [1] * 8
        assert {asked["reason"] for each in movers for asked in each.asked} == {"rebalance"}
        # Even by now: there is nothing more to do.
        again = await cluster.nodes[2].moves.even_out()
        assert (again["to_move"], (await over(cluster, at=2))["moved"]) == (0, 0)


async def test_asked_again_meanwhile_of_whichever_node_it_is_the_same_one(place: Place) -> None:
    async with place(2) as cluster:
        assert await cluster.nodes[0].moves.evened_out() == {"state": "none"}
        movers = [await mover(cluster, 0, f"u{n}") for n in range(4)]
        await settled(cluster)
        begun = await cluster.nodes[0].moves.even_out()
        for node in cluster.nodes:
            told = await node.moves.even_out()
            assert (told["node"], told["begun_at"], told["state"]) == ("n1", begun["begun_at"], "running")
        assert not cluster.nodes[1].moves.rebalance.is_running
        crowd = Crowd(movers)
        try:
            assert (await over(cluster, at=1))["moved"] == 2
        finally:
            await crowd.end()


async def test_who_ignores_it_is_closed_in_the_end_and_it_is_over_in_time(place: Place) -> None:
    async with place(2, drain_s=1.0) as cluster:
        movers = [await mover(cluster, 0, f"u{n}") for n in range(6)]
        await settled(cluster)
        assert (await cluster.nodes[1].moves.even_out())["to_move"] == 3

        async def is_over() -> bool:
            for each in movers:
                if not each.client.connection.is_closed:
                    each.client.connection.check(cluster.nodes[0].clock.monotonic())
            return bool((await cluster.nodes[1].moves.evened_out())["state"] == "done")

        await until(is_over, within=6)
        done = await cluster.nodes[1].moves.evened_out()
        assert (done["moved"], done["timed_out"]) == (0, 3)
        await until(lambda: sum(each.client.outlet.closed is not None for each in movers) == 3)


async def test_who_comes_back_to_the_same_node_is_not_asked_again(place: Place) -> None:
    async with place(2) as cluster:
        movers = [await mover(cluster, 0, f"u{n}") for n in range(6)]
        for each in movers:
            each.goes_to = lambda url: 0
        await settled(cluster)
        crowd = Crowd(movers)
        try:
            await cluster.nodes[0].moves.even_out()
            done = await over(cluster)
        finally:
            await crowd.end()
        assert (done["moved"], done["refused"]) == (0, 3)
        assert sum(crowd.moves.values()) == 3


async def test_it_gives_no_more_than_the_surplus_that_is_left_when_others_go_by_themselves(
    place: Place,
) -> None:
    async with place(2) as cluster:
        movers = [await mover(cluster, 0, f"u{n}") for n in range(10)]
        await settled(cluster)
        for each in movers[:4]:
            each.client.vanish(1000)
        crowd = Crowd(movers[4:])
        try:
            assert (await cluster.nodes[0].moves.even_out())["to_move"] == 5
            done = await over(cluster)
        finally:
            await crowd.end()
        assert done["moved"] == 1
        assert await settled(cluster) == [5, 1]


async def test_a_target_that_leaves_gets_nobody_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebalance_module, "CALM_PER_S", 0.1)
    async with place(3) as cluster:
        [await mover(cluster, 0, f"u{n}") for n in range(9)]
        await settled(cluster)
        await cluster.nodes[0].moves.even_out()
        cluster.nodes[2].leaving.begin()
        await cluster.nodes[2].lease.renew()

        def takers() -> set[str]:
            givings = cluster.nodes[0].moves.rebalance._givings
            return {each.transfer.target for each in givings}

        assert takers() == {"n2", "n3"}
        await until(lambda: takers() == {"n2"}, within=2)


async def test_one_whose_node_is_stopped_is_said_to_be_abandoned_and_another_may_begin(place: Place) -> None:
    async with place(3) as cluster:
        [await mover(cluster, 0, f"u{n}") for n in range(6)]
        await settled(cluster)
        await cluster.nodes[2].moves.even_out()
        await cluster.nodes[2].stop()
        assert (await cluster.nodes[1].moves.evened_out())["state"] == "abandoned"
        assert (await cluster.nodes[1].moves.even_out())["node"] == "n2"


async def test_a_register_that_names_nobody_for_a_moment_ends_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(2) as cluster:
        movers = [await mover(cluster, 0, f"u{n}") for n in range(6)]
        await settled(cluster)
        live, looks = cluster.lives[1], itertools.count()
        nodes = live.nodes

        async def emptied() -> list[NodeEntry]:
            # Redis has lost its data, and the nodes are in it again with their next renewals.
            found: list[NodeEntry] = await nodes()
            return [] if 1 <= next(looks) <= 4 else found

        monkeypatch.setattr(live, "nodes", emptied, raising=False)
        crowd = Crowd(movers)
        try:
            await cluster.nodes[1].moves.even_out()
            done = await over(cluster, at=1)
        finally:
            await crowd.end()
        assert (next(looks) > 5, done["moved"]) == (True, 3)


async def test_one_that_ends_while_redis_takes_nothing_is_not_in_the_way_of_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(2) as cluster:
        movers = [await mover(cluster, 0, f"u{n}") for n in range(4)]
        await settled(cluster)
        live = cluster.lives[1]

        async def refused(*_: object, **__: object) -> None:
            raise Unavailable("away")

        crowd = Crowd(movers)
        try:
            await cluster.nodes[1].moves.even_out()
            with monkeypatch.context() as patch:
                patch.setattr(live, "put_task", refused, raising=False)
                await until(lambda: not cluster.nodes[1].moves.rebalance.is_running)
                assert (await cluster.nodes[0].moves.evened_out())["state"] == "running"
            assert (await over(cluster, at=0, within=3))["moved"] == 2
        finally:
            await crowd.end()
        assert (await cluster.nodes[0].moves.even_out())["node"] == "n1"
