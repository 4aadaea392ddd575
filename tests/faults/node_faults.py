"""What happens to nodes: killed, frozen, asked to leave, stalled."""

import os
import signal

from tests.cluster.crowd import Crowd
from tests.cluster.speaker import Speaker
from tests.process import GatewayProcess
from tests.waiting import until

# Two of those who sit at a frozen node wait for it however long it takes, to hear what it has to say.
PATIENT = 2
TOLD_WITHIN_S = 10.0


class Killed:
    """SIGKILL; started again."""

    name = "node killed"

    def __init__(self, node: GatewayProcess) -> None:
        self._node = node

    async def begin(self) -> None:
        await self._node.kill()

    async def end(self) -> None:
        await self._node.start(within=30.0)


class Drained(Killed):
    """SIGTERM: it asks its clients to move, and goes; started again."""

    name = "node drained"

    async def begin(self) -> None:
        assert await self._node.terminate() == 0


class Stalled:
    """Its loop does nothing for five seconds."""

    name = "node stalled"

    def __init__(self, node: GatewayProcess) -> None:
        self._node = node

    async def begin(self) -> None:
        os.kill(self._node.pid, signal.SIGUSR1)

    async def end(self) -> None:
        """It goes on by itself."""


class Frozen(Stalled):
    """SIGSTOP for longer than its lease, then SIGCONT: it tells whoever is left to come back anew (4003)."""

    name = "node frozen"

    def __init__(self, node: GatewayProcess, crowd: Crowd) -> None:
        super().__init__(node)
        self._crowd = crowd
        self._patient: list[Speaker] = []

    async def begin(self) -> None:
        here = [speaker for speaker in self._crowd.speakers if self._node.ws_url == speaker.url]
        self._patient = here[:PATIENT]
        for speaker in self._patient:
            speaker.deaf_s = None
        os.kill(self._node.pid, signal.SIGSTOP)

    async def end(self) -> None:
        losses = {speaker.name: len(speaker.losses) for speaker in self._patient}
        os.kill(self._node.pid, signal.SIGCONT)

        def is_told(speaker: Speaker) -> bool:
            return any(why.startswith("4003") for why in speaker.losses[losses[speaker.name] :])

        try:
            await until(lambda: all(is_told(one) for one in self._patient), within=TOLD_WITHIN_S)
        except AssertionError:
            for speaker in self._patient:
                if not is_told(speaker):
                    speaker.astray(f"was not closed with 4003 by a node that had slept: {speaker.losses}")
