"""What is changed over HTTP reaches whoever is attached, on the node that was asked and on others."""

import pytest

from gateway.runtime.sessions import SessionSpec
from store.types import Change
from tests.runtime.conftest import Place
from tests.runtime.test_many_nodes import pair
from tests.waiting import until


@pytest.mark.parametrize("is_lost", [False, True], ids=["told", "found"])
async def test_who_hosts_a_session_learns_how_long_it_lives_by_now(
    place: Place, hurried: None, is_lost: bool
) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster, ttl=600)
        identity = alice.connection.caller
        sessions, room = cluster.nodes[0].sessions, cluster.nodes[1].hub.rooms[session]
        cluster.ether.loss = 1.0 if is_lost else 0.0
        for ttl_s in (0, 60):
            changed = await sessions.update(identity, session, Change(ttl_s=ttl_s))
            frame = await bob.next("session")
            while frame["version"] < changed.version:
                frame = await bob.next("session")
            assert (frame["event"], frame["changes"]["ttl_s"]) == ("updated", ttl_s or None)
            assert (room.ttl_s, room.expires_at) == (changed.ttl_s, changed.expires_at)


async def test_who_is_a_member_from_the_beginning_is_told_of_the_session(place: Place) -> None:
    async with place() as cluster:
        alice, bob = await cluster.client(0, "alice"), await cluster.client(1, "bob")
        spec = SessionSpec(members=(("bob", "writer"),))
        session = await cluster.nodes[0].sessions.create(alice.connection.caller, spec)
        await until(lambda: any(f.get("name") == "session.joined" for f in bob.outlet.frames))
        attached = await bob.ask("attach", session=session.id)
        assert (attached["type"], attached["role"]) == ("attached", "writer")
