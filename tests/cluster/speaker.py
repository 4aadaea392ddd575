"""One user with one connection: says, hears, checks what it hears, and writes all of it down."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from picows import WSError

from tests.cluster.wire import Frame, Wire
from tests.evidence.history import History, Op, Record, digest
from tests.waiting import later

WELCOME_WITHIN_S: Final = 15.0
# The pauses between tries to come back; shorter than a real client's, so that a short run sees many returns.
FIRST_RETURN_S: Final = 0.25
LAST_RETURN_S: Final = 2.0
# What is kept of signals heard, and of heartbeats that wait for their answer.
SIGNALS: Final = 20_000
BEATS: Final = 50
# What answers what.
ANSWERS: Final = {
    "attach": "attached",
    "close": "closed",
    "detach": "detached",
    "history": "history",
    "presence": "presence",
    "read": "read",
    "signal": "signal",
}


@dataclass(slots=True)
class Saying:
    """A message that waits for its ack."""

    id: str
    session: str
    text: str
    metadata: dict[str, int]
    said_at: float

    @property
    def frame(self) -> Frame:
        what = {"session": self.session, "content": self.text, "metadata": self.metadata}
        return {"type": "send", "id": self.id, **what}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that waits for its answer; whoever asked may have given up."""

    kind: str
    session: str
    since: int | None
    answer: asyncio.Future[Frame]


@dataclass(frozen=True, slots=True)
class Heard:
    """A signal of somebody else: when it was sent and heard, and whether another node brought it."""

    sent_at: float
    heard_at: float
    is_from_afar: bool


class Speaker:
    """Comes back by itself when its connection is lost, reads on from its cursors, and says again, under the
    same id, whatever is not acked.

    `strays` are sentences about what should never have come: an answer to what it did not ask, content of
    another session than the frame says, a cursor it had not named.
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
        self.fellows: dict[str, set[str]] = {}  # who may be met there
        self.unacked: dict[str, Saying] = {}
        self.said = self.acked = self.duplicates = 0
        self.connection = self.node = ""
        self.attached: set[str] = set()
        self.live: set[str] = set()
        self.strays: list[str] = []
        self.failures: list[Exception] = []
        self.losses: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.signals: deque[Heard] = deque(maxlen=SIGNALS)
        self.events: list[Frame] = []
        self._history = history
        self._chance = chance
        self._wire: Wire | None = None
        self._welcomed: asyncio.Future[Frame] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._is_wanted = False
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
    def has_socket(self) -> bool:
        """Whether its last socket is not quite gone."""
        return self._wire is not None and self._wire.is_open

    @property
    def is_live(self) -> bool:
        """Whether it has caught up in every session it wants to be in, on the present connection."""
        return self.is_connected and self.live >= self.cursors.keys()

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
        if self._wire is not None:
            self._wire.close()

    def vanish(self) -> None:
        """Lose the connection without a word, in the middle of whatever is under way. It will come back."""
        self.connection = ""
        if self._wire is not None:
            self._wire.vanish()

    async def _dial(self) -> None:
        welcomed = self._welcomed = asyncio.get_running_loop().create_future()
        wire = self._wire = Wire(self)
        try:
            async with asyncio.timeout(WELCOME_WITHIN_S):
                await wire.open(self.home())
                attach = [{"session": id, "since": cursor} for id, cursor in self.cursors.items()]
                hello: Frame = {"type": "hello", "token": self.token, "attach": attach}
                if self._resume is not None:
                    hello["resume"], self._resume = self._resume, None
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
        if wire is not self._wire:
            return
        said = f"{wire.close_code} {wire.close_reason}".strip()
        self.connection = ""
        self.attached.clear()
        self.live.clear()
        self._beats.clear()
        unanswered, self._asked_for = self._asked_for, {}
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

    # -- what it says

    def join(self, session: str, title: str, since: int = 0) -> None:
        """Want to be in a session, from a cursor on; attach if connected."""
        self.cursors[session] = since
        self.titles[session] = title
        if self.is_connected:
            self._attach(session)

    def say(self, session: str, text: str) -> None:
        """Send a message, and again under the same id until it is acked or refused for good."""
        self.said += 1
        saying = Saying(f"{self.name}-{self.said}", session, text, {"n": self.said}, time.monotonic())
        self._note(
            "send", session, sender=self.name, id=saying.id, digest=digest("user", text, saying.metadata)
        )
        self.unacked[saying.id] = saying
        self._known.add(saying.id)
        self._transmit(saying)

    def signal(self, session: str) -> None:
        """Send something ephemeral that tells when and where it was sent."""
        if session in self.attached and self._wire is not None:
            data = {"at": time.monotonic(), "node": self.node}
            self._wire.say({"type": "signal", "session": session, "name": "now", "data": data})

    def beat(self, now: float) -> None:
        """Send a heartbeat when it is time for one."""
        if self._wire is not None and self.is_connected and now >= self._next_beat:
            self._next_beat = now + self._beat_s
            ts = int(now * 1000)
            self._beats.append(ts)
            seen = {session: self.cursors[session] for session in self.attached}
            self._wire.say({"type": "heartbeat", "ts": ts, "seen": seen})

    def ask(
        self, kind: str, session: str, *, since: int | None = None, **fields: object
    ) -> asyncio.Future[Frame]:
        """Send a request; its answer, an error included, or ConnectionResetError, is the future's.

        Whoever gives the future up still has the answer checked.
        """
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        # Looked at by then: an answer that nobody waits for any more is no forgotten error.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._wire is None or not self.is_connected:
            answer.set_exception(ConnectionResetError("not connected"))
            return answer
        self._asked += 1
        id = f"{self.name}?{self._asked}"
        self._asked_for[id] = Asked(kind, session, since, answer)
        if since is not None:
            fields["since"] = since
        self._wire.say({"type": kind, "id": id, "session": session, **fields})
        return answer

    def _attach(self, session: str) -> None:
        if session in self.cursors and session not in self.attached:
            _ = self.ask("attach", session, since=self.cursors[session])

    def _transmit(self, saying: Saying) -> None:
        if saying.id in self.unacked and saying.session in self.attached and self._wire is not None:
            self._wire.say(saying.frame)

    def has_all(self, heads: Mapping[str, int]) -> bool:
        """Whether it was given everything of each of its sessions."""
        return all(cursor >= heads.get(session, 0) for session, cursor in self.cursors.items())

    def note_complete(self) -> None:
        """Say that it has everything."""
        for session in self.cursors:
            self._note("complete", session)

    # -- what it hears

    def hear(self, wire: Wire, frame: Frame) -> None:
        if wire is not self._wire:
            return
        match frame["type"]:
            case "message":
                self._message(frame)
            case "ack":
                self._ack(frame)
            case "error":
                self._error(frame)
            case "signal" if "id" not in frame:
                data = frame["data"]
                is_from_afar = data["node"] != self.node
                self.signals.append(Heard(data["at"], time.monotonic(), is_from_afar))
                self._expect(frame["session"] in self.attached, "a signal of another session", frame)
            case "heartbeat":
                self._expect(frame["ts"] in self._beats, "an answer to no heartbeat of its own", frame)
                self._expect(frame["sessions"].keys() <= self.cursors.keys(), "others' sessions", frame)
            case "welcome":
                self._welcome(frame)
            case "live":
                self.live.add(frame["session"])
            case "session":
                self.events.append(frame)
                self._expect(frame["session"] in self.cursors, "an event of another session", frame)
            case _:
                if frame["type"] == "attached":
                    self._attached(frame)
                elif frame["type"] == "detached":
                    self.attached.discard(frame["session"])
                    self.live.discard(frame["session"])
                if "id" in frame:
                    self._answer(frame)

    def _welcome(self, frame: Frame) -> None:
        self._expect(frame["user"] == self.name, "welcomed as somebody else", frame)
        self.connection, self.node, self._resume = frame["connection"], frame["node"], frame["resume"]
        self._beat_s = frame["heartbeat"]["interval_ms"] / 1000
        self._next_beat = time.monotonic() + self._chance.uniform(0, self._beat_s)
        if self._welcomed is not None and not self._welcomed.done():
            self._welcomed.set_result(frame)

    def _attached(self, frame: Frame) -> None:
        session = frame["session"]
        self._expect(session in self.cursors, "attached to what it does not want", frame)
        # Where it was when it asked: by now it may have been given more by the attachment before.
        asked = self._asked_for.get(frame.get("id", ""))
        since = self.cursors.get(session, 0) if asked is None or asked.since is None else asked.since
        self._expect(frame["since"] == since, f"attached elsewhere than behind {since}", frame)
        self.cursors[session] = since
        self._expect(frame["title"] == self.titles.get(session), "another session's title", frame)
        self._note("attach", session, seq=since, node=self.node)
        self.attached.add(session)
        for saying in self.unacked.values():
            if saying.session == session:
                self._transmit(saying)

    def _message(self, frame: Frame) -> None:
        session, seq = frame["session"], frame["seq"]
        self._expect(session in self.attached, "a message of a session it is not attached to", frame)
        self._expect(self.is_of(session, frame["content"]), "a message of another session", frame)
        self.cursors[session] = seq
        self._note(
            "deliver",
            session,
            seq=seq,
            sender=frame["sender"],
            id=frame["client_id"],
            digest=digest(frame["role"], frame["content"], frame["metadata"]),
        )

    def _ack(self, frame: Frame) -> None:
        id = frame["id"]
        self._expect(id in self._known, "an ack of what it never said", frame)
        # A second one may come: what was sent twice, around a refusal that might be retried, is acked twice.
        saying = self.unacked.pop(id, None)
        if saying is not None:
            self.acked += 1
            self.duplicates += frame["duplicate"]
            self._expect(frame["session"] == saying.session, "an ack of another session", frame)
        session, seq = frame["session"], frame["seq"]
        self.heads[session] = max(self.heads.get(session, 0), seq)
        self._note("ack", session, seq=seq, sender=self.name, id=id)

    def _error(self, frame: Frame) -> None:
        self.refusals[frame["code"]] += 1
        id = frame.get("id")
        pause = frame.get("retry_after_ms", 200) / 1000
        session = frame.get("session")
        if (saying := self.unacked.get(id or "")) is not None:
            if frame["retryable"]:
                asyncio.get_running_loop().call_later(pause, self._transmit, saying)
            else:
                del self.unacked[saying.id]
                self._note("refuse", saying.session, sender=self.name, id=saying.id)
        elif id is not None and id not in self._known:
            self._answer(frame)
        elif id is None and session in self.cursors and frame["retryable"]:
            # An attachment of the hello that could not be served now.
            asyncio.get_running_loop().call_later(pause, self._attach, session)
        elif id is None:
            self._expect(False, "an error about nothing it asked", frame)

    def _answer(self, frame: Frame) -> None:
        asked = self._asked_for.pop(frame["id"], None)
        if asked is None:
            self._expect(False, "an answer to no request of its own", frame)
            return
        if frame["type"] == "error":
            if asked.kind == "attach" and frame["retryable"]:
                pause = frame.get("retry_after_ms", 200) / 1000
                asyncio.get_running_loop().call_later(pause, self._attach, asked.session)
        else:
            self._expect(frame["session"] == asked.session, f"an answer not about {asked.session}", frame)
            self._expect(frame["type"] == ANSWERS[asked.kind], f"no answer to {asked.kind}", frame)
            texts = [message["content"] for message in frame.get("messages", ())]
            self._expect(all(self.is_of(asked.session, text) for text in texts), "others' history", frame)
            users = {user["user"] for user in frame.get("users", ())}
            self._expect(users <= self.fellows.get(asked.session, users), "others' presence", frame)
        if not asked.answer.done():
            asked.answer.set_result(frame)

    def is_of(self, session: str, content: str) -> bool:
        """Whether a text was made for this session: everybody here begins with its id."""
        return content.startswith(session)

    def _expect(self, holds: bool, otherwise: str, frame: Frame) -> None:
        if not holds:
            self.strays.append(f"{self.name} got {otherwise}: {str(frame)[:300]}")

    def _note(
        self,
        op: Op,
        session: str,
        *,
        seq: int | None = None,
        sender: str | None = None,
        id: str | None = None,
        **more: str,
    ) -> None:
        self._history.add(
            Record(
                client=self.name,
                op=op,
                at=time.monotonic(),
                session=session,
                seq=seq,
                sender=sender,
                id=id,
                **more,
            )
        )
