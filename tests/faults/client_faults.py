"""What happens to clients: they know nothing of it, or come back."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from picows import WSError

from loadtest.servers.proxy import FaultProxy
from loadtest.servers.wire import Direction
from tests.cluster.crowd import Crowd
from tests.cluster.speaker import Speaker
from tests.cluster.wire import Frame, Wire

TWIN_WITHIN_S: Final = 5.0


class Reset:
    """Some connections are reset."""

    name = "clients reset"

    def __init__(self, victims: Sequence[Speaker]) -> None:
        self._victims = victims

    async def begin(self) -> None:
        for speaker in self._victims:
            speaker.vanish()

    async def end(self) -> None:
        """They come back by themselves."""


class HalfOpen(Reset):
    """Some are gone without a word, and come back while their old connections seem to live."""

    name = "clients left half open"

    async def begin(self) -> None:
        for speaker in self._victims:
            speaker.abandon()


class Asleep(Reset):
    """Some neither read nor say anything for a while."""

    name = "clients asleep"

    async def begin(self) -> None:
        for speaker in self._victims:
            speaker.sleep()

    async def end(self) -> None:
        for speaker in self._victims:
            speaker.wake()


class SlowLine(Reset):
    """Some come over a line that carries next to nothing; in the end it breaks, and they have a good one."""

    def __init__(self, victims: Sequence[Speaker], doors: Sequence[FaultProxy], bytes_per_s: int) -> None:
        super().__init__(victims)
        self.name = f"clients on {bytes_per_s} bytes a second"
        self._doors = doors
        self._rate = bytes_per_s
        self._homes = [speaker.home for speaker in victims]

    async def begin(self) -> None:
        for n, speaker in enumerate(self._victims):
            speaker.home = partial("ws://127.0.0.1:{}/ws".format, self._doors[n % len(self._doors)].port)
        for door in self._doors:
            door.limit(self._rate, Direction.TO_CLIENT)
        await super().begin()

    async def end(self) -> None:
        for speaker, home in zip(self._victims, self._homes, strict=True):
            speaker.home = home
        for door in self._doors:
            door.heal()
            door.cut_all()


class TokenTwice(Reset):
    """Some come back, and in the same moment somebody else with the same resume token: one of them has it."""

    name = "resume token used twice"

    def __init__(self, victims: Sequence[Speaker], crowd: Crowd) -> None:
        super().__init__(victims)
        self._crowd = crowd
        self._twins: list[Twin] = []

    async def begin(self) -> None:
        self._twins = [Twin(speaker) for speaker in self._victims if speaker.resume_token is not None]
        await super().begin()
        urls = [self._crowd.nodes[n % len(self._crowd.nodes)].ws_url for n in range(len(self._twins))]
        await asyncio.gather(*(twin.come(url) for twin, url in zip(self._twins, urls, strict=True)))

    async def end(self) -> None:
        for twin in self._twins:
            twin.leave()


class Twin:
    """Has a speaker's token and its resume token, and nothing to say."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._resume = speaker.resume_token
        self._wire = Wire(self)
        self._welcomed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def come(self, url: str) -> None:
        """Resume; a stray for the checker when both have."""
        try:
            async with asyncio.timeout(TWIN_WITHIN_S):
                await self._wire.open(url)
                self._wire.say({"type": "hello", "token": self._speaker.token, "resume": self._resume})
                is_resumed = await self._welcomed
        except (OSError, WSError, TimeoutError):
            return
        if is_resumed and self._speaker.is_connected and self._speaker.resumed_with == self._resume:
            self._speaker.astray("resumed with a token, and so did another")

    def leave(self) -> None:
        """Close."""
        self._wire.close()

    def hear(self, wire: Wire, frame: Frame) -> None:
        if frame["type"] == "welcome" and not self._welcomed.done():
            self._welcomed.set_result(frame["resumed"])

    def lost(self, wire: Wire) -> None:
        if not self._welcomed.done():
            self._welcomed.set_exception(ConnectionResetError("lost"))

    def failed(self, error: Exception) -> None:
        self._speaker.failures.append(error)
