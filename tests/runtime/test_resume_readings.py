"""What a resume asks the database: nothing for messages its node still has, and the rest with others."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.fanout.relay import TAIL_FRAMES
from gateway.runtime.node import NodeSettings
from store.open import Places, migrate_log, open_stores
from tests.runtime.world import Client, World, world
from tests.waiting import until

# Asked in the background, of nobody.
IDLE = {"ping", "tally", "standings", "extend", "revocations", "expire", "events", "note", "mark", "purge"}


@asynccontextmanager
async def on_postgres(path: Path, url: str) -> AsyncIterator[World]:
    places = Places(path, database_url=url)
    await asyncio.to_thread(migrate_log, places)
    here = World(open_stores(places), NodeSettings(node_id="n1", resumes_per_s=100_000))
    await here.node.start()
    try:
        yield here
    finally:
        for client in here.clients:
            if not client.connection.is_closed:
                client.vanish()
        await here.node.stop()


def asked(here: World, before: Counter[str]) -> dict[str, int]:
    """What the log was asked since, on behalf of clients."""
    return {kind: n for kind, n in (here.node.log.queries - before).items() if kind not in IDLE}


async def pair(here: World) -> tuple[Client, Client, str, str]:
    """Alice and Bob in a session; Bob's resume token."""
    alice = await here.client("alice")
    session = await alice.open()
    await here.join(alice, session, "bob")
    bob = here.connect()
    token = (await bob.hello("bob", attach=[{"session": session}]))["resume"]
    await bob.next("live")
    # Whoever connects for the first time has their list put into the cache, which is not what is counted.
    await until(lambda: here.node.records.counts["list_load"] == 2)
    return alice, bob, session, token


async def test_what_was_said_meanwhile_is_not_read_when_the_tail_has_it(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        alice, bob, session, token = await pair(here)
        bob.vanish()
        for n in range(TAIL_FRAMES):
            await alice.send(session, f"m{n}")
        before = Counter(here.node.log.queries)
        back = here.connect()
        assert (await back.hello("bob", resume=token))["resumed"]
        await back.next("live")
        assert back.messages(session) == list(range(1, TAIL_FRAMES + 1))
        # Whether Bob may still read it is the truth of this moment, and no message is.
        assert asked(here, before) == {"access": 1}


async def test_only_what_the_tail_does_not_reach_is_read(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        alice, bob, session, token = await pair(here)
        bob.vanish()
        for n in range(TAIL_FRAMES + 1):
            await alice.send(session, f"m{n}")
        before = Counter(here.node.log.queries)
        back = here.connect()
        await back.hello("bob", resume=token)
        await back.next("live")
        assert back.messages(session) == list(range(1, TAIL_FRAMES + 2))
        # One page, and from where it ends the tail goes on.
        assert asked(here, before) == {"access": 1, "read": 1}


async def test_a_hundred_resumes_at_once_are_a_few_statements(tmp_path: Path, postgres_url: str) -> None:
    async with on_postgres(tmp_path, postgres_url) as here:
        tokens = []
        for n in range(100):
            client = here.connect()
            tokens.append((await client.hello(f"user-{n}"))["resume"])
            await client.open()
            client.vanish()
        await until(lambda: here.node.records.counts["list_load"] == 100)
        before = Counter(here.node.log.queries)
        backs = [here.connect() for _ in tokens]
        welcomes = await asyncio.gather(
            *(back.hello(f"user-{n}", resume=tokens[n]) for n, back in enumerate(backs))
        )
        assert all(welcome["resumed"] for welcome in welcomes)
        for back in backs:
            await back.next("live")
        readings = asked(here, before)
        assert list(readings) == ["access"]
        assert readings["access"] <= 10
