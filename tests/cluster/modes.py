"""What the nodes say of their own health: in /readyz, in the metrics, in the log."""

from tests.cluster.world import World
from tests.waiting import until

NOTICED_WITHIN_S = 10.0


async def until_degraded(world: World, mode: str, *, is_degraded: bool) -> None:
    """Wait until every node says that it is in this mode, or out of it; all of them stay ready."""

    async def holds() -> bool:
        values = await world.metric("gateway_degraded", mode=mode)
        return all(bool(value) == is_degraded for value in values)

    await until(holds, within=NOTICED_WITHIN_S, what=f"{mode} is {is_degraded} on every node")
    bodies = await world.ready()
    assert [status for status, _ in bodies] == [200] * len(bodies), bodies
    assert [mode in body for _, body in bodies] == [is_degraded] * len(bodies), bodies
