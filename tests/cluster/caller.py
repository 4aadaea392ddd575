"""One user's connection: comes back when it is lost, vanishes, falls asleep, is left half open."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Final

from picows import WSError

from tests.cluster.under_way import Asked, Heard, Saying
from tests.cluster.wire import Frame, Hearer, Wire
from tests.evidence.history import History
from tests.waiting import later

WELCOME_WITHIN_S: Final = 15.0
# The pauses between tries to come back; shorter than a real client's, so that a short run sees many returns.
FIRST_RETURN_S: Final = 0.25
LAST_RETURN_S: Final = 2.0
# What is kept of signals heard, and of heartbeats that wait for their answer.
SIGNALS: Final = 20_000
BEATS: Final = 50


class Caller:
    """Comes back by itself when its connection is lost, and reads on from its cursors. Whoever calls hears,
    too: that is left to a Speaker.
    """

    def __init__(
        self, name: str, token: str, home: Callable[[], str], history: History, chance: Random
    ) -> None:
        self.name = name
        self.token = token
        self.home = home
        self.cursors: dict[str, int] = {}  # of the sessions it wants to be in
        self.titles: dict[str, str] = {}
        self.heads: dict[str, int] = {}  # the highest seq it has an ack for
        self.exclusive: set[str] = set()  # of those
        self.fellows: dict[str, set[str]] = {}  # who may be met there
        self.unacked: dict[str, Saying] = {}
        self.said = self.acked = self.duplicates = 0
        self.connection = self.node = ""
        self.attached: set[str] = set()
        self.live: set[str] = set()
        self.superseded: set[str] = set()  # where somebody else has taken over
        self.unheard: set[str] = set()  # attached to, or not: the last connection was lost before the answer
        self.epochs: dict[str, int] = {}  # held in exclusive sessions
        self.patience_s = WELCOME_WITHIN_S
        self.deaf_s: float | None = None  # after so long a silence it takes its connection for lost
        self.strays: list[str] = []
        self.failures: list[Exception] = []
        self.losses: list[str] = []
        self.url = ""  # where it went last
        self.resumed_with: str | None = None  # the token with which it has taken up a connection before
        self.refusals: Counter[str] = Counter()
        self.signals: deque[Heard] = deque(maxlen=SIGNALS)
        self.events: list[Frame] = []
        self.wire: Callable[[Hearer], Wire] = Wire
        self._history = history
        self._chance = chance
        self._wire: Wire | None = None
        self._left_behind: list[Wire] = []
        self._heard_at = 0.0
        self._welcomed: asyncio.Future[Frame] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._is_wanted = self.is_asleep = False
        self._resume: str | None = None
        self._asked_for: dict[str, Asked] = {}
        self._asked = 0
        self._known: set[str] = set()  # ids of all it ever said
        self._beat_s = 25.0
        self._next_beat = 0.0
        self._beats: deque[int] = deque(maxlen=BEATS)

    def __str__(self) -> str:
        state = "connected" if self.is_connected else f"away ({', '.join(self.losses[-1:])})"
        missing = sorted(set(self.cursors) - self.live)
        return f"{self.name} on {self.node}: {state}, {len(self.unacked)} unacked, not live in {missing}"

    # -- its life

    @property
    def is_connected(self) -> bool:
        """Whether it has been welcomed on a socket that is open."""
        return bool(self.connection) and self._wire is not None and self._wire.is_open

    @property
    def resume_token(self) -> str | None:
        """What it would resume with."""
        return self._resume

    @property
    def has_socket(self) -> bool:
        """Whether one of its sockets is not quite gone."""
        return any(wire.is_open for wire in (self._wire, *self._left_behind) if wire is not None)

    @property
    def is_live(self) -> bool:
        """Whether it has caught up in every session it wants to be in, on the present connection."""
        return self.is_connected and self.live >= self.cursors.keys() - self.superseded

    async def enter(self) -> None:
        """Connect and be welcome. Its attachments follow."""
        self._is_wanted = True
        await self._dial()

    async def leave(self) -> None:
        """Close for good."""
        self._is_wanted = False
        # Not cancelled: in the middle of a handshake its socket would stay open.
        if self._returning is not None:
            await self._returning
        for wire in self._left_behind:
            wire.vanish()
        if self._wire is not None:
            self._wire.close()

    def vanish(self) -> None:
        """Lose the connection without a word, in the middle of whatever is under way. It will come back."""
        self.connection = ""
        if self._wire is not None:
            self._wire.vanish()

    def abandon(self) -> None:
        """Leave the connection half open: nothing more is read or said on it, and nobody closes it."""
        wire = self._wire
        if wire is not None and self.is_connected:
            self._left_behind.append(wire)
            wire.pause()
            self._gone(wire, "left half open")

    def sleep(self) -> None:
        """Neither read nor say anything, as a laptop whose lid is closed."""
        if self._wire is not None:
            self._wire.pause()
            self.is_asleep = True

    def wake(self) -> None:
        """Go on where it was."""
        self.is_asleep = False
        self._heard_at = time.monotonic()
        if self._wire is not None:
            self._wire.unpause()

    async def _dial(self) -> None:
        welcomed = self._welcomed = asyncio.get_running_loop().create_future()
        wire = self._wire = self.wire(self)
        try:
            async with asyncio.timeout(self.patience_s):
                self.url = self.home()
                await wire.open(self.url)
                wanted = [(id, cursor) for id, cursor in self.cursors.items() if id not in self.superseded]
                attach = [{"session": id, "since": cursor} for id, cursor in wanted]
                hello: Frame = {"type": "hello", "token": self.token, "attach": attach}
                self.resumed_with = None
                if self._resume is not None:
                    hello["resume"], self._resume = self._resume, None
                    self.resumed_with = hello["resume"]
                wire.say(hello)
                await welcomed
        except BaseException:
            welcomed.cancel()
            wire.vanish()
            raise

    async def _come_back(self) -> None:
        longest = FIRST_RETURN_S
        while self._is_wanted:
            await later(self._chance.uniform(0, longest))
            longest = min(LAST_RETURN_S, longest * 2)
            try:
                await self._dial()
            except (OSError, WSError, TimeoutError) as error:
                self.losses.append(repr(error))
            else:
                return

    def lost(self, wire: Wire) -> None:
        if wire is self._wire:
            self._gone(wire, f"{wire.close_code} {wire.close_reason}".strip())

    def _gone(self, wire: Wire, said: str) -> None:
        self._wire = None
        self.connection = ""
        self.is_asleep = False
        self.epochs.clear()
        for saying in self.unacked.values():
            saying.tries = 0
        self.attached.clear()
        self.live.clear()
        self._beats.clear()
        unanswered, self._asked_for = self._asked_for, {}
        self.unheard = {asked.session for asked in unanswered.values() if asked.kind == "attach"}
        for asked in unanswered.values():
            if not asked.answer.done():
                asked.answer.set_exception(ConnectionResetError(said))
        if self._welcomed is not None and not self._welcomed.done():
            self._welcomed.set_exception(ConnectionResetError(said))
        elif self._is_wanted:
            self.losses.append(said)
            self._returning = asyncio.get_running_loop().create_task(
                self._come_back(), name=f"{self.name} comes back"
            )

    def failed(self, error: Exception) -> None:
        self.failures.append(error)

    def hear(self, wire: Wire, frame: Frame) -> None:
        """A frame has come."""
        raise NotImplementedError
