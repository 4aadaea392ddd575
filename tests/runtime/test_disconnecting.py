"""Connections that are ended from another node, also where what is told gets lost at first."""

import asyncio

import pytest

from gateway.runtime.lives import Lives
from gateway.runtime.whereabouts import Whereabouts
from tests.runtime.conftest import Place
from tests.waiting import until


@pytest.mark.parametrize("loss", [0.0, 0.6])
async def test_a_connection_is_ended_on_another_node_also_where_hints_get_lost(
    place: Place, loss: float
) -> None:
    async with place(2, seed=3) as cluster:
        alice, far = await cluster.client(0, "alice"), await cluster.client(1, "alice")
        asked = cluster.nodes[0]
        lives = Lives(asked.log, asked.clock)
        whereabouts = Whereabouts(
            asked.sessions, asked.records, asked.presence, asked.live, lives, asked.publisher
        )
        identity = alice.connection.caller

        async def is_known() -> bool:
            return len(await whereabouts.connections_of_user(identity, "alice")) == 2

        await until(is_known)
        cluster.ether.loss = loss

        async def answer_the_close() -> None:
            assert await far.closed() == 4504
            far.vanish(4504)

        ending, _ = await asyncio.gather(
            whereabouts.disconnect(identity, far.connection.id), answer_the_close()
        )
        assert ending == (1, 0)
        assert alice.outlet.closed is None
