"""One run: a world, a crowd in it, what is done to it, and the verdict over all that was seen."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.crowd import Crowd
from tests.cluster.faults import Fault, happening
from tests.cluster.world import Ground, World
from tests.evidence.checker import Violation, check
from tests.evidence.history import History
from tests.evidence.stored import Stored, read_postgres, read_sqlite


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
    ground: Ground | None

    def fault(self, fault: Fault) -> AbstractAsyncContextManager[None]:
        """Let something go wrong while the block runs."""
        return happening(fault, self.history)

    async def verdict(self, *, within: float = 30.0) -> list[Violation | str]:
        """Wait until all is answered and complete, send everybody home, and hold all against the log.

        What reached somebody it was not meant for is in it too, as a sentence.
        """
        await self.crowd.settle(within=within)
        await self.crowd.leave()
        self.crowd.raise_failures()
        return [*check(self.history.records, await self._stored()), *self.crowd.strays]

    async def _stored(self) -> Stored:
        if self.ground is not None:
            return await read_postgres(self.ground.database_url)
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
                yield Trial(world, crowd, history, ground)
            finally:
                await crowd.leave()
    finally:
        history.close()
