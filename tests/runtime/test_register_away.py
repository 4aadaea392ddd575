"""One server of a Redis Cluster is away, that of the register of nodes above all, and others are not."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.runtime import leases as leases_module
from gateway.runtime.node import Node
from store.errors import Unavailable
from store.live import LOST_MS, Roll, life_of
from store.types import ConnectionEntry, NodeEntry
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster
from tests.runtime.test_crash import brisk, buried
from tests.runtime.test_events import kinds
from tests.runtime.test_leases import attached, indexed, opened, resumed
from tests.runtime.test_presence_nodes import told
from tests.runtime.world import Client
from tests.waiting import later, turns, until

__all__ = ["brisk"]  # an autouse fixture: a lease is over within 2 s


class Register:
    """The register, as one node sees it."""

    def __init__(self, node: Node) -> None:
        self._live = node.live
        self._renew = node.live.renew_node

    def go_away(self) -> None:
        async def away(*given: Any, **more: Any) -> Any:
            raise Unavailable("away")

        self._live.renew_node = away  # type: ignore[method-assign]

    def has_forgotten(self, life: str) -> None:
        """It is back, and says of this life that it may go on."""

        async def forgetful(node: NodeEntry, **more: Any) -> Any:
            return Roll() if life_of(node.id, node.incarnation) == life else await self._renew(node, **more)

        self._live.renew_node = forgetful  # type: ignore[method-assign]

    def come_back(self) -> None:
        self._live.renew_node = self._renew  # type: ignore[method-assign]


async def away_for_long(node: Node) -> Register:
    """The register is away for longer than a lease."""
    register = Register(node)
    register.go_away()
    await until(lambda: not node.lease.is_running)
    return register


async def couple(cluster: Cluster) -> tuple[Client, Client, str]:
    """Olga, who sees who comes and goes, and bob, both at one node and in a session."""
    olga = await cluster.client(0, "olga")
    session = await olga.open()
    bob = await cluster.member(0, "bob", olga, session)
    await until(lambda: told(olga, "bob") == ["join"])
    return olga, bob, session


async def test_without_a_register_who_comes_and_goes_is_written_to_the_others(place: Place) -> None:
    async with place(1, is_fenced=False) as cluster:
        alice, session, token = await opened(cluster, 0)
        node = cluster.nodes[0]
        await away_for_long(node)
        postponed = node.postponed.get("leases", 0)
        new, _ = await resumed(cluster, 0, token)
        assert (await new.next("live"))["session"] == session
        await until(lambda: attached_is(cluster, session, {new.connection.id}))
        alice.vanish()
        another = await cluster.client(0, "bob")
        await new.world.join(new, session, "bob")
        assert (await another.ask("attach", session=session))["type"] == "attached"
        await until(lambda: attached_is(cluster, session, {new.connection.id, another.connection.id}))
        another.vanish()
        await until(lambda: attached_is(cluster, session, {new.connection.id}))
        # It is put off all the same, and counted: that nobody knows of this node is to be seen.
        await until(lambda: node.postponed["leases"] > postponed)


async def attached_is(cluster: Cluster, session: str, expected: set[str]) -> bool:
    return await attached(cluster, session) == expected


async def test_who_was_written_while_the_node_was_lost_without_knowing_is_told_to_be_back(
    place: Place,
) -> None:
    async with place(1, is_fenced=False) as cluster:
        olga, bob, session = await couple(cluster)
        node = cluster.nodes[0]
        register = await away_for_long(node)
        await buried(node)
        for connection in (olga.connection, bob.connection):
            node.leases.changed(connection)
        await until(lambda: attached_is(cluster, session, {olga.connection.id, bob.connection.id}))
        assert told(olga, "bob") == ["join"]
        register.come_back()
        await until(lambda: told(olga, "bob") == ["join", "join"])
        await until(lambda: node.lease.is_running)
        await node.leases.flush()
        await turns(20)
        assert told(olga, "bob") == ["join", "join"]
        await node.events.flush()
        assert await kinds(cluster, "bob") == ["joined", "joined"]  # the survivors' own `left` is between
        assert await indexed(cluster, "bob") == [bob.connection.id]


async def test_whom_the_indexes_forgot_while_the_register_was_away_is_not_told_again(place: Place) -> None:
    async with place(1, is_fenced=False) as cluster:
        olga, bob, session = await couple(cluster)
        node = cluster.nodes[0]
        register = await away_for_long(node)
        await cluster.live.forget([bob.connection.entry])
        assert await cluster.live.leave("default", session, "bob")  # as a server that has lost what it had
        node.leases.changed(bob.connection)
        await until(lambda: attached_is(cluster, session, {olga.connection.id, bob.connection.id}))
        register.come_back()
        await until(lambda: node.lease.is_running)
        node.leases.changed(bob.connection)
        await node.leases.flush()
        await later(0.5)
        assert node.lease.returns == 0
        assert told(olga, "bob") == ["join"]


async def test_who_was_cut_off_for_longer_than_lost_nodes_are_remembered_is_back_like_any_other(
    place: Place,
) -> None:
    async with place(1, is_fenced=False) as cluster:
        olga, bob, session = await couple(cluster)
        node = cluster.nodes[0]
        register = await away_for_long(node)
        await buried(node)
        before = node.lease.life
        monotonic = node.clock.monotonic
        node.clock.monotonic = lambda: monotonic() + LOST_MS / 1000  # type: ignore[method-assign]
        register.has_forgotten(before)
        await node.lease.renew()
        assert (node.lease.returns, node.lease.life != before) == (1, True)
        await node.leases.flush()
        await until(lambda: told(olga, "bob") == ["join", "join"])
        assert await attached(cluster, session) == {olga.connection.id, bob.connection.id}


async def test_while_it_cannot_be_noted_who_leaves_others_are_written_and_those_wait(place: Place) -> None:
    async with place(1, is_fenced=False) as cluster:
        olga, bob, session = await couple(cluster)
        node = cluster.nodes[0]
        note = node.live.note_leaving

        async def away(*given: Any, **more: Any) -> None:
            raise Unavailable("away")

        node.live.note_leaving = away  # type: ignore[method-assign]
        postponed = node.postponed.get("leases", 0)
        bob.vanish()
        await cluster.live.forget([olga.connection.entry])
        node.leases.changed(olga.connection)
        # Whoever was to be told to have left would not be, if this node died now.
        await until(lambda: attached_is(cluster, session, {olga.connection.id, bob.connection.id}))
        await until(lambda: node.postponed["leases"] > postponed)
        node.live.note_leaving = note  # type: ignore[method-assign]
        await until(lambda: attached_is(cluster, session, {olga.connection.id}))
        await until(lambda: told(olga, "bob") == ["join", "leave"])


async def test_those_who_cannot_be_taken_out_do_not_keep_others_in(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "BATCH", 3)
    async with place(1, is_fenced=False) as cluster:
        clients = [(await opened(cluster, 0, f"u{n}"))[0] for n in range(8)]
        node = cluster.nodes[0]
        forget = node.live.forget

        async def first_ones_away(entries: Sequence[ConnectionEntry]) -> None:
            await forget([entry for entry in entries if entry.user not in ("u0", "u1")])
            if any(entry.user in ("u0", "u1") for entry in entries):
                raise Unavailable("away")

        node.live.forget = first_ones_away  # type: ignore[method-assign]
        for client in clients:
            client.vanish()

        async def others_are_gone() -> bool:
            return [await indexed(cluster, f"u{n}") for n in range(2, 8)] == [[]] * 6

        await until(others_are_gone)
        node.live.forget = forget  # type: ignore[method-assign]

        async def all_are_gone() -> bool:
            return [await indexed(cluster, f"u{n}") for n in range(8)] == [[]] * 8

        await until(all_are_gone)
