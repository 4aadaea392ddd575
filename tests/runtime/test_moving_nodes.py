"""An operator moves connections: what is told is what was seen, and it ends in time whatever dies."""

import asyncio

import pytest

from gateway.errors import BadRequest, NotFound, RateLimited
from gateway.runtime import escort as escort_module
from gateway.runtime import migrations as migrations_module
from gateway.runtime.node_channel import Move, encode
from tests.runtime.conftest import Place
from tests.runtime.movers import all_moving, begun, ended, in_session, mover, outcomes
from tests.runtime.test_presence_nodes import GRACE, everything_is_told, told
from tests.waiting import turns, until


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes ask each other more often, and nobody is waited for as long."""
    monkeypatch.setattr(migrations_module, "TICK_S", 0.02)
    for module in (escort_module, migrations_module):
        monkeypatch.setattr(module, "GONE_S", 0.5)


async def test_a_session_is_moved_to_one_node_and_nobody_sees_anybody_leave(place: Place) -> None:
    async with place(3) as cluster:
        movers, session = await in_session(cluster, "alice", "bob", "carol")
        task = await begun(cluster, "session", session, "n3", at=1)
        assert (task["state"], task["connections"], task["already_there"]) == ("running", 2, 1)
        moving = asyncio.create_task(all_moving(movers[:2]))
        for n in range(20):
            await movers[2].client.send(session, f"m{n}")
        await moving
        done = await ended(cluster, task, at=1)
        assert (done["state"], done["moved"], done["refused"], done["timed_out"]) == ("done", 2, 0, 0)
        assert outcomes(done) == {"alice": ("moved", "n3"), "bob": ("moved", "n3")}
        assert [each.node for each in movers] == ["n3", "n3", "n3"]
        for each in movers[:2]:
            (asked,) = each.asked
            assert (asked["reason"], asked["url"]) == ("operator", "ws://n3/ws")
            assert 29_000 < asked["deadline_ms"] <= 30_300
            former = set(each.former[0].messages(session))
            await until(
                lambda each=each, former=former: (
                    former | set(each.client.messages(session)) == set(range(1, 21))
                )
            )
        await everything_is_told(cluster, GRACE)
        assert {name: told(movers[2].client, name) for name in ("alice", "bob")} == {"alice": [], "bob": []}
        # Every node can be asked, also when another one has it.
        for at in (0, 2):
            assert (await ended(cluster, task, at=at)) == done
            (listed,) = await cluster.nodes[at].moves.all_of("default")
            assert (listed["id"], listed["moved"], "outcomes" in listed) == (task["id"], 2, False)


async def test_one_connection_is_moved_to_the_least_loaded_other_node_when_none_is_named(
    place: Place,
) -> None:
    async with place(3) as cluster:
        alice = await mover(cluster, 0, "alice")
        await mover(cluster, 1, "bob")
        task = await begun(cluster, "connection", alice.id)
        assert task["target"] == "n3"
        await alice.move()
        assert outcomes(await ended(cluster, task)) == {"alice": ("moved", "n3")}


async def test_all_connections_of_a_user_are_moved_and_nobody_elses(place: Place) -> None:
    async with place(2) as cluster:
        alices = [await mover(cluster, 0, "alice") for _ in range(3)]
        bob = await mover(cluster, 0, "bob")
        task = await begun(cluster, "user", "alice", "n2")
        await all_moving(alices)
        done = await ended(cluster, task)
        assert (done["moved"], done["connections"]) == (3, 3)
        assert bob.client.outlet.frames[-1]["type"] == "welcome"


async def test_who_comes_back_elsewhere_has_refused_and_it_is_told_where_they_are(place: Place) -> None:
    async with place(3) as cluster:
        alice, bob = await mover(cluster, 0, "alice"), await mover(cluster, 0, "bob")
        alice.goes_to = lambda url: 2
        bob.goes_to = lambda url: 0  # by an address that leads anywhere
        tasks = [await begun(cluster, "connection", each.id, "n2") for each in (alice, bob)]
        await all_moving([alice, bob])
        done = [await ended(cluster, task) for task in tasks]
        assert [outcomes(each) for each in done] == [{"alice": ("refused", "n3")}, {"bob": ("refused", "n1")}]
        assert "not to the target" in done[0]["outcomes"][0]["why"]


async def test_who_leaves_for_good_has_refused(place: Place) -> None:
    async with place(2) as cluster:
        alice = await mover(cluster, 0, "alice")
        task = await begun(cluster, "connection", alice.id, "n2", at=1)
        await alice.be_asked()
        alice.client.vanish(1000)
        done = await ended(cluster, task, at=1)
        assert outcomes(done) == {"alice": ("refused", None)}
        assert "left" in done["outcomes"][0]["why"]


async def test_who_ignores_it_is_closed_at_the_deadline_and_has_timed_out(place: Place) -> None:
    async with place(2, drain_s=1.0) as cluster:
        alice = await mover(cluster, 0, "alice")
        task = await begun(cluster, "connection", alice.id, "n2", at=1)
        asked = await alice.be_asked()
        assert 0 < asked["deadline_ms"] <= 1100

        def is_closed() -> bool:
            alice.client.connection.check(cluster.nodes[0].clock.monotonic())
            return alice.client.outlet.closed is not None

        await until(is_closed)
        alice.client.vanish(4000)
        done = await ended(cluster, task, at=1)
        assert alice.client.outlet.closed == (4000, "this connection was to move")
        assert outcomes(done) == {"alice": ("timed_out", None)}
        assert "closed" in done["outcomes"][0]["why"]


async def test_words_that_are_lost_between_nodes_are_said_again(place: Place) -> None:
    async with place(3, seed=7) as cluster:
        movers, session = await in_session(cluster, "alice", "bob", "carol")
        await turns(50)
        cluster.ether.loss = 0.7
        task = await begun(cluster, "session", session, "n3", at=2)
        await all_moving(movers[:2])
        assert outcomes(await ended(cluster, task, at=2)) == {
            "alice": ("moved", "n3"),
            "bob": ("moved", "n3"),
        }
        assert cluster.ether.lost
        cluster.ether.loss = 0.0
        for each in movers[:2]:
            assert len([f for f in each.former[0].outlet.frames if f["type"] == "migrate"]) == 1


async def test_a_client_is_asked_once_however_often_its_node_is(place: Place) -> None:
    async with place(2) as cluster:
        alice = await mover(cluster, 0, "alice")
        move = Move("operator", "ws://n2/ws", ((alice.id, 0, 30_000), ("nobody", 0, 30_000)))
        for _ in range(3):
            cluster.nodes[0].moves.hear(encode(move))
        assert [frame["type"] for frame in alice.client.outlet.frames] == ["welcome", "migrate"]
        cluster.nodes[0].moves.hear(b"of another version")


async def test_a_node_that_says_nothing_keeps_no_task_from_its_end(place: Place) -> None:
    async with place(2, drain_s=0.0) as cluster:
        alice = await mover(cluster, 0, "alice")
        cluster.deafen(0)
        task = await begun(cluster, "connection", alice.id, "n2", at=1)
        done = await ended(cluster, task, at=1)
        assert outcomes(done) == {"alice": ("timed_out", None)}
        assert "did not answer" in done["outcomes"][0]["why"]


async def test_while_the_live_store_hangs_a_task_ends_in_time_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.runtime.task_record.STORE_S", 0.1)
    async with place(2, drain_s=0.0) as cluster:
        alice = await mover(cluster, 0, "alice")
        task = await begun(cluster, "connection", alice.id, "n2", at=1)
        cluster.lives[1].hang()
        await alice.be_asked()
        done = await ended(cluster, task, at=1)
        assert outcomes(done) == {"alice": ("timed_out", None)}
        cluster.lives[1].come_back()


async def test_a_task_of_a_node_that_is_stopped_is_said_to_be_abandoned(place: Place) -> None:
    async with place(3) as cluster:
        alice = await mover(cluster, 0, "alice")
        task = await begun(cluster, "connection", alice.id, "n2", at=2)
        await alice.be_asked()
        await cluster.nodes[2].stop()
        assert (await ended(cluster, task))["state"] == "abandoned"


async def test_a_task_of_a_node_that_was_killed_is_said_to_be_abandoned_when_its_time_is_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.runtime.task_record.PATIENCE_MS", 0)
    async with place(3, drain_s=0.0) as cluster:
        alice = await mover(cluster, 0, "alice")
        cluster.nodes[2].moves._turn = lambda: None  # type: ignore[method-assign]
        task = await begun(cluster, "connection", alice.id, "n2", at=2)
        assert (await cluster.nodes[0].moves.find("default", task["id"]))["state"] == "running"
        told = await ended(cluster, task)
        assert told["state"] == "abandoned"
        assert "is gone" in told["why"]


async def test_where_nobody_can_be_moved_to_is_said_with_the_nodes_there_are(place: Place) -> None:
    async with place(3) as cluster:
        alice = await mover(cluster, 0, "alice")
        with pytest.raises(BadRequest, match=r"no node n9. The nodes are: n1, n2, n3\."):
            await begun(cluster, "connection", alice.id, "n9")
        with pytest.raises(BadRequest, match="at n1 already"):
            await begun(cluster, "connection", alice.id, "n1")
        cluster.nodes[1].leaving.begin()
        cluster.nodes[2].lease._url = None
        with pytest.raises(BadRequest, match="moved to n2: it is leaving"):
            await begun(cluster, "connection", alice.id, "n2")
        with pytest.raises(BadRequest, match="moved to n3: it has no GATEWAY_ADVERTISE_URL"):
            await begun(cluster, "connection", alice.id, "n3")
        with pytest.raises(BadRequest, match="no other node to move to: n1 has the connections; n2 is leav"):
            await begun(cluster, "connection", alice.id)


async def test_where_nobody_is_and_what_is_another_tenants_is_not_there(place: Place) -> None:
    async with place(2) as cluster:
        (alice, _), session = await in_session(cluster, "alice", "bob")
        moves = cluster.nodes[0].moves
        for tenant in ("acme", "default.", "x"):
            for kind, subject in (("session", session), ("connection", alice.id), ("user", "alice")):
                with pytest.raises(NotFound):
                    await moves.begin(tenant, kind, subject, "n2")  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            await begun(cluster, "user", "nobody", "n2")
        task = await begun(cluster, "connection", alice.id, "n2")
        for node in cluster.nodes:
            with pytest.raises(NotFound):
                await node.moves.find("acme", task["id"])
            assert await node.moves.all_of("acme") == []


async def test_the_hundred_and_first_task_of_a_node_is_refused_until_one_has_ended(place: Place) -> None:
    async with place(2, connections_per_user=200) as cluster:
        alices = [await mover(cluster, 0, "alice") for _ in range(101)]
        for each in alices[:100]:
            await begun(cluster, "connection", each.id, "n2")
        with pytest.raises(RateLimited, match="100 moves are under way") as refused:
            await begun(cluster, "connection", alices[100].id, "n2")
        assert refused.value.retry_after_ms
        # Another node has a hundred of its own.
        last = await begun(cluster, "connection", alices[100].id, "n2", at=1)
        await all_moving([alices[0], alices[100]])
        assert outcomes(await ended(cluster, last, at=1)) == {"alice": ("moved", "n2")}
        await until(lambda: len(cluster.nodes[0].moves._running) < 100)
        await begun(cluster, "connection", alices[1].id, "n2")


async def test_more_connections_than_a_node_can_keep_in_mind_are_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(escort_module, "STEPS", 3)
    async with place(2) as cluster:
        for _ in range(4):
            await mover(cluster, 0, "alice")
        with pytest.raises(RateLimited, match="3 connections"):
            await begun(cluster, "user", "alice", "n2")


async def test_connections_that_are_on_their_way_for_several_tasks_count_for_each(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(escort_module, "STEPS", 4)
    async with place(2) as cluster:
        for _ in range(2):
            await mover(cluster, 0, "alice")
        for _ in range(2):
            await begun(cluster, "user", "alice", "n2")
        with pytest.raises(RateLimited, match="4 connections"):
            await begun(cluster, "user", "alice", "n2")


async def test_a_task_that_ends_while_redis_is_away_is_told_as_it_ended_when_it_is_back(place: Place) -> None:
    async with place(2) as cluster:
        alice = await mover(cluster, 0, "alice")
        task = await begun(cluster, "connection", alice.id, "n2", at=1)
        await alice.be_asked()
        cluster.lives[1].go_away()
        alice.client.vanish(1000)
        await until(lambda: not cluster.nodes[1].moves._running)
        cluster.lives[1].come_back()
        assert outcomes(await ended(cluster, task, at=0)) == {"alice": ("refused", None)}
        await until(lambda: not cluster.nodes[1].moves._is_turning)
