"""What a connection is made of goes with it: there is nothing left for the garbage collector to find."""

import gc
from pathlib import Path

from tests.runtime.world import world
from tests.waiting import turns, until


async def test_a_closed_connection_leaves_no_cycles(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        session = await (await w.client("alice")).open()

        async def come_and_go() -> None:
            client = await w.client("alice")
            assert (await client.ask("attach", session=session, since=0))["type"] == "attached"
            await client.next("live")
            await until(lambda: not client.connection._is_busy)
            client.vanish()
            w.clients.remove(client)

        await come_and_go()
        await w.node.leases.flush()
        await turns(5)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await come_and_go()
            await w.node.leases.flush()
            await turns(5)
            assert gc.collect() < 20
        finally:
            gc.enable()
