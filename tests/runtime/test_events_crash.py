"""Joins and leaves as events when a node dies: those who survive it tell the leaves, each once."""

from tests.runtime.conftest import Place
from tests.runtime.test_crash import TRUE_WITHIN_S, brisk, die, enters, until_lost, watched
from tests.runtime.test_events import kinds
from tests.runtime.test_leases import flushed
from tests.waiting import turns, until

__all__ = ["brisk"]  # an autouse fixture: a node is found lost within 2 s


async def test_of_the_users_of_a_dead_node_each_leaves_once(place: Place) -> None:
    async with place(3, is_fenced=False) as cluster:
        olga, session = await watched(cluster)
        users = [f"u{n}" for n in range(4)]
        for user in users:
            await enters(cluster, 0, user, olga, session)
        elsewhere = await cluster.member(2, "u3", olga, session)  # with a second connection
        await flushed(cluster)

        async def is_written(expected: list[str]) -> bool:
            return all([await kinds(cluster, user) == expected for user in users[:3]])

        await until(lambda: is_written(["joined"]))
        await die(cluster.nodes[0])
        await until_lost(cluster)
        await until(lambda: is_written(["joined", "left"]), within=TRUE_WITHIN_S)
        await turns(20)
        for node in cluster.nodes[1:]:
            await node.events.flush()
        assert await is_written(["joined", "left"])
        assert await kinds(cluster, "u3") == ["joined"]
        assert not elsewhere.connection.is_closed
