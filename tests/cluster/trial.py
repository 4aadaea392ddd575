"""One run: a world, a crowd in it, what is done to it, and the verdict over all that was seen."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.crowd import Crowd
from tests.cluster.faults import Fault, happening
from tests.cluster.truth import until_true
from tests.cluster.world import HEARTBEAT_MS, LEASE_MS, Ground, World
from tests.evidence.checker import Violation, check
from tests.evidence.history import History
from tests.evidence.indexes import Leases
from tests.evidence.stored import Stored, read_postgres, read_sqlite

# While connections live, what is not true may stand for a lease: a node that is gone forgets nobody.
LIVING: Final = Leases(connection_ms=LEASE_MS, presence_ms=LEASE_MS)
# A node that lives forgets who has gone with its next flush, every 0.2 s. For those who come back it waits
# some seconds before it says that they have left their sessions.
FORGOTTEN: Final = Leases(connection_ms=0, presence_ms=LEASE_MS)
FORGOTTEN_WITHIN_S: Final = 5.0
GONE: Final = Leases(connection_ms=0, presence_ms=0)
GONE_WITHIN_S: Final = 12.0
# A node that has lost Redis looks once a second whether it is back.
SLACK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Size:
    """How many clients in how many sessions; the seed says what they do."""

    clients: int
    sessions: int
    nodes: int = 3
    seed: int = 1


@dataclass(slots=True)
class Trial:
    """A crowd that is connected and caught up."""

    world: World
    crowd: Crowd
    history: History

    def fault(self, fault: Fault) -> AbstractAsyncContextManager[None]:
        """Let something go wrong while the block runs."""
        return happening(fault, self.history)

    async def verdict(self, *, within: float = 30.0) -> list[Violation]:
        """Wait until all is answered and complete, send everybody home, and hold all against the log."""
        await self.crowd.settle(within=within)
        await self.crowd.leave()
        self.crowd.raise_failures()
        if self.world.ground is not None:
            await until_true(self.world, self.crowd, FORGOTTEN, within=FORGOTTEN_WITHIN_S)
        return check(self.history.records, await self._stored())

    async def until_indexes_are_true(self) -> None:
        """Wait for as long as one heartbeat may take on a busy machine; AssertionError with what is wrong."""
        await until_true(self.world, self.crowd, LIVING, within=HEARTBEAT_MS / 1000 + SLACK_S)

    async def until_nothing_is_left(self) -> None:
        """When everybody is gone, wait until no index has any of them."""
        await until_true(self.world, self.crowd, GONE, within=GONE_WITHIN_S)

    async def _stored(self) -> Stored:
        if self.world.ground is not None:
            return await read_postgres(self.world.ground.database_url)
        await self.world.nodes[0].terminate()
        return read_sqlite(self.world.nodes[0].database)


@asynccontextmanager
async def trial(
    folder: Path, ground: Ground | None, size: Size, env: Mapping[str, str] | None = None
) -> AsyncIterator[Trial]:
    """Start everything; history and logs stay in the folder."""
    history = History(folder / "history.jsonl")
    try:
        async with World(folder, ground, count=size.nodes, env=env) as world:
            crowd = Crowd(world.nodes, history, size.seed)
            try:
                await crowd.assemble(clients=size.clients, sessions=size.sessions)
                yield Trial(world, crowd, history)
            finally:
                await crowd.leave()
    finally:
        history.close()
