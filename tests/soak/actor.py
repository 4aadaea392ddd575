"""One user of a soak run: sends at random, receives everything, and writes down what it did and saw."""

import asyncio
from collections import Counter
from random import Random
from typing import Final

from session_gateway_client import (
    Ack,
    Client,
    ClientClosed,
    Event,
    Options,
    Refused,
    Session,
    StateChanged,
    SystemClock,
    connect,
)
from tests.evidence.history import History, Op, Record, digest

# Traffic takes its time; that is no waiting for something to become true.
CLOCK: Final = SystemClock()
MEAN_PAUSE_S: Final = 0.08
# In flight at once in one session. More than the client's default of one, so that a commit finds a group to
# commit.
WINDOW: Final = 8
# Sends that wait for their ack, of one user. While the gateway is down nothing piles up beyond it.
UNDER_WAY: Final = 40
LONGEST: Final = 3000


class Actor:
    """A user that outlives its clients: `renew` throws one away and goes on from the cursors alone."""

    def __init__(self, name: str, url: str, token: str, history: History, group: asyncio.TaskGroup) -> None:
        self.name = name
        self.sessions: dict[str, Session] = {}
        self.sent = 0
        self.acked = 0
        self.duplicates = 0
        self.delivered = 0
        # Why it was away, and how often.
        self.reasons: Counter[str] = Counter()
        # Set with every ack.
        self.heard = asyncio.Event()
        self._url = url
        self._token = token
        self._history = history
        self._group = group
        self._client: Client | None = None
        self._reading: list[asyncio.Task[None]] = []
        self._under_way = 0
        self._changed = asyncio.Event()

    @property
    def client(self) -> Client:
        if self._client is None:
            raise AssertionError(f"{self.name} has not entered")
        return self._client

    def __str__(self) -> str:
        client = self._client
        said = "no client" if client is None else f"{client.state}, {client.reason}"
        return f"{self.name}: {said}, {self._under_way} under way"

    @property
    def is_connected(self) -> bool:
        return self._client is not None and self._client.state == "open"

    @property
    def is_settled(self) -> bool:
        """Whether everything it sent is acked or refused."""
        return self._under_way == 0

    def retry_now(self) -> None:
        """Connect at once, if it waits for its next try."""
        self.client.retry_now()

    # -- its life

    async def enter(self) -> None:
        """Connect."""
        options = Options(name="soak", window=WINDOW, proxy=None, open_timeout_s=60.0)
        client = self._client = connect(self._url, token=self._token, options=options)
        await client.__aenter__()
        client.on_event(self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, StateChanged) and event.state == "waiting":
            self.reasons[event.reason.partition("(")[0]] += 1

    def join(self, session: Session) -> None:
        """Take part in a session that its client has opened or attached."""
        self.sessions[session.id] = session
        self._note("attach", session.id, seq=session.cursor)
        self._reading.append(self._group.create_task(self._read(session), name=f"{self.name} reads"))
        self._changed.set()

    async def renew(self) -> None:
        """Lose everything but the cursors, as a program that starts again does."""
        # A reader takes and notes a message without a pause between the two: cancelled, it has lost nothing.
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        self._reading.clear()
        cursors = {session.id: session.cursor for session in self.sessions.values()}
        self.sessions.clear()
        await self.client.close()
        await self.enter()
        for id, cursor in cursors.items():
            self.join(await self.client.attach(id, since=cursor))

    async def leave(self) -> None:
        """Close; its readers end by themselves."""
        if self._client is not None:
            await self._client.close()

    # -- what it does

    async def talk(self, chance: Random, stop: asyncio.Event) -> None:
        """Send to one session or another, at random moments, until told to stop."""
        while True:
            await CLOCK.sleep(chance.expovariate(1 / MEAN_PAUSE_S))
            if stop.is_set():
                return
            self.burst(chance, 1)

    def burst(self, chance: Random, count: int) -> None:
        """Send `count` messages at once."""
        for _ in range(count):
            if self.sessions and self._under_way < UNDER_WAY:
                self._under_way += 1
                session = chance.choice(sorted(self.sessions))
                text = "".join(chance.choices('ab ü\n"\\', k=int(LONGEST * chance.random() ** 4)))
                self._group.create_task(self._say(session, text), name=f"{self.name} says")

    async def _say(self, session: str, text: str) -> None:
        self.sent += 1
        id, metadata = f"{self.name}-{self.sent}", {"n": self.sent}
        self._note("send", session, sender=self.name, id=id, digest=digest("user", text, metadata))
        try:
            ack = await self._until_acked(session, text, id, metadata)
        except Refused:
            self._note("refuse", session, sender=self.name, id=id)
        else:
            self.acked += 1
            self.heard.set()
            self.duplicates += ack.duplicate
            self._note("ack", session, seq=ack.seq, sender=self.name, id=id)
        finally:
            self._under_way -= 1

    async def _until_acked(self, session: str, text: str, id: str, metadata: dict[str, int]) -> Ack:
        while True:
            while session not in self.sessions:
                self._changed.clear()
                await self._changed.wait()
            try:
                return await self.sessions[session].send(text, id=id, metadata=metadata)
            except ClientClosed:
                # Renewed in between: whether it was stored is unknown, so it goes again under its id.
                self.sessions.pop(session, None)

    async def _read(self, session: Session) -> None:
        async for message in session:
            self.delivered += 1
            self._note(
                "deliver",
                message.session,
                seq=message.seq,
                sender=message.sender,
                id=message.client_id,
                digest=digest(message.role, message.content, message.metadata),
            )
        if not isinstance(session.ended, ClientClosed):
            # Nobody ends a session here: the gateway does not know it, or its cursor, any more.
            raise AssertionError(f"{self.name} lost {session}: {session.ended}")

    # -- its end

    async def head(self, session: str) -> int:
        """The head of a session as the gateway tells it."""
        return (await self.sessions[session].history(limit=1)).head

    def has_all(self, heads: dict[str, int]) -> bool:
        """Whether it was given everything of each of its sessions."""
        return all(session.cursor >= heads[id] for id, session in self.sessions.items())

    def note_complete(self) -> None:
        """Say that it has everything."""
        for id in self.sessions:
            self._note("complete", id)

    def _note(
        self,
        op: Op,
        session: str,
        *,
        seq: int | None = None,
        sender: str | None = None,
        id: str | None = None,
        digest: str | None = None,
    ) -> None:
        self._history.add(
            Record(
                client=self.name,
                op=op,
                at=CLOCK.monotonic(),
                session=session,
                seq=seq,
                sender=sender,
                id=id,
                digest=digest,
            )
        )
