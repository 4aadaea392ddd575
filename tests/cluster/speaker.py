"""What one user says and hears over its connection: it checks what it hears, and writes all of it down."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from tests.cluster.caller import Caller
from tests.cluster.under_way import Asked, Heard, Saying, is_of, misfits
from tests.cluster.wire import Frame, Wire
from tests.evidence.history import Op, Record, digest
from tests.evidence.sessions import TERMINAL


class Speaker(Caller):
    """Says again, under the same id, whatever is not acked, whichever connection it has by then.

    `strays` are sentences about what should never have come: an answer to what it did not ask, content of
    another session than the frame says, a cursor it had not named.
    """

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

    @property
    def _is_awake(self) -> bool:
        return self._wire is not None and not self.is_asleep

    def wake(self) -> None:
        """Say what was thought of in the sleep."""
        super().wake()
        for saying in self.unacked.values():
            self._transmit(saying)

    def read(self, session: str) -> None:
        """Move its read marker to where it is."""
        if session in self.attached and self._wire and self._is_awake and self.cursors[session]:
            self._wire.say({"type": "read", "session": session, "seq": self.cursors[session]})

    def take_over(self, session: str) -> None:
        """Attach again where somebody else has taken over."""
        if self.is_connected and session in self.superseded:
            self._attach(session)

    def is_attaching(self, session: str) -> bool:
        """Whether it waits for the answer to an attachment of this session."""
        return any(asked.kind == "attach" and asked.session == session for asked in self._asked_for.values())

    def signal(self, session: str) -> None:
        """Send something ephemeral that tells when and where it was sent."""
        if session in self.attached and self._wire is not None and self._is_awake:
            data = {"at": time.monotonic(), "node": self.node}
            self._wire.say({"type": "signal", "session": session, "name": "now", "data": data})

    def beat(self, now: float) -> None:
        """Send a heartbeat when it is time for one; vanish when nothing was heard for too long."""
        if self._wire is None or not self.is_connected or self.is_asleep:
            return
        if self.deaf_s is not None and now - self._heard_at > self.deaf_s:
            self.vanish()
        elif now >= self._next_beat:
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
        session = saying.session
        if saying.id not in self.unacked or session not in self.attached or not self._is_awake:
            return
        if session in self.epochs:
            self._note("transmit", session, sender=self.name, id=saying.id, epoch=self.epochs[session])
        if self._wire is not None:
            saying.tries += 1
            self._wire.say(saying.frame)

    def has_all(self, heads: Mapping[str, int]) -> bool:
        """Whether it was given everything of each of its sessions."""
        mine = self.cursors.keys() - self.superseded
        return all(self.cursors[session] >= heads.get(session, 0) for session in mine)

    def note_complete(self) -> None:
        """Say that it has everything."""
        for session in self.cursors.keys() - self.superseded:
            self._note("complete", session)

    # -- what it hears

    def hear(self, wire: Wire, frame: Frame) -> None:
        if wire is not self._wire:
            return
        self._heard_at = time.monotonic()
        match frame["type"]:
            case "message":
                self._message(frame)
            case "ack":
                self._ack(frame)
            case "error":
                self._error(frame)
            case "signal" | "read" if "id" not in frame:
                self._ephemeral(frame)
            case "heartbeat":
                self._expect(frame["ts"] in self._beats, "an answer to no heartbeat of its own", frame)
                self._expect(frame["sessions"].keys() <= self.cursors.keys(), "others' sessions", frame)
            case "welcome":
                self._welcome(frame)
            case "live":
                self.live.add(frame["session"])
            case "session":
                self._event(frame)
            case _:
                if frame["type"] == "attached":
                    self._attached(frame)
                elif frame["type"] == "detached":
                    self.attached.discard(frame["session"])
                    self.live.discard(frame["session"])
                if "id" in frame:
                    self._answer(frame)

    def _ephemeral(self, frame: Frame) -> None:
        kind = frame["type"]
        self._expect(frame["session"] in self.attached, f"a {kind} of another session", frame)
        self._note("hear", frame["session"], what=kind, connection=self.connection)
        if kind == "signal":
            data = frame["data"]
            self.signals.append(Heard(data["at"], time.monotonic(), data["node"] != self.node))

    def _event(self, frame: Frame) -> None:
        session, event = frame["session"], frame["event"]
        self.events.append(frame)
        self._expect(session in self.titles, "an event of another session", frame)
        self._note("hear", session, what=event, connection=self.connection)
        if event == "superseded":
            self._lose(session)
        elif event in TERMINAL:
            self._lose(session)
            self.cursors.pop(session, None)

    def _lose(self, session: str) -> None:
        """Somebody else has taken the session over; to go on, it would have to do so itself."""
        self.superseded.add(session)
        self.epochs.pop(session, None)
        self.attached.discard(session)
        self.live.discard(session)

    def _welcome(self, frame: Frame) -> None:
        self._expect(frame["user"] == self.name, "welcomed as somebody else", frame)
        self.connection, self.node, self._resume = frame["connection"], frame["node"], frame["resume"]
        if not frame.get("resumed"):
            self.resumed_with = None
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
        is_theirs = asked is None and session in self.superseded - self.unheard
        self._expect(not is_theirs, "back what somebody else took over", frame)
        self._expect(frame["since"] == since, f"attached elsewhere than behind {since}", frame)
        self.cursors[session] = since
        self._expect(frame["title"] == self.titles.get(session), "another session's title", frame)
        is_holder = session in self.exclusive and frame["role"] != "reader"
        epoch = frame["epoch"] if is_holder else None
        where = {"node": self.node, "connection": self.connection}
        self._note("attach", session, seq=since, epoch=epoch, **where)
        self.attached.add(session)
        self.superseded.discard(session)
        if epoch is not None:
            self.epochs[session] = epoch
        for saying in self.unacked.values():
            if saying.session == session:
                self._transmit(saying)

    def _message(self, frame: Frame) -> None:
        session, seq = frame["session"], frame["seq"]
        self._expect(session in self.attached, "a message of what it is not attached to", frame)
        self._expect(is_of(session, frame["content"]), "a message of another session", frame)
        self.cursors[session] = seq
        self._note(
            "deliver",
            session,
            seq=seq,
            connection=self.connection,
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
            saying.tries -= 1
            if frame["code"] == "not_attached" or (not frame["retryable"] and saying.tries > 0):
                pass  # it goes again with the next attachment, or has gone again under a newer epoch
            elif frame["retryable"]:
                asyncio.get_running_loop().call_later(pause, self._transmit, saying)
            else:
                del self.unacked[saying.id]
                self._note("refuse", saying.session, sender=self.name, id=saying.id)
        elif id is not None and id not in self._known:
            self._answer(frame)
        elif id is None and session in self.exclusive and frame["code"] == "superseded":
            self._lose(session)
        elif id is None and frame["code"] == "not_attached" and self.superseded:
            pass  # a signal or a read marker was under way when somebody else took over
        elif id is None and frame["code"] == "rate_limited":
            pass  # a signal or a read marker found no room behind all that it asks and says at once
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
            if asked.kind == "attach" and frame["code"] == "superseded":
                self._lose(asked.session)
            if asked.kind == "attach" and frame["retryable"]:
                pause = frame.get("retry_after_ms", 200) / 1000
                asyncio.get_running_loop().call_later(pause, self._attach, asked.session)
        else:
            for misfit in misfits(asked, frame, self.fellows.get(asked.session)):
                self._expect(False, misfit, frame)
        if not asked.answer.done():
            asked.answer.set_result(frame)

    def _expect(self, holds: bool, otherwise: str, frame: Frame) -> None:
        if not holds:
            self.astray(f"got {otherwise}: {str(frame)[:300]}", str(frame.get("session", "")))

    def astray(self, sentence: str, session: str = "") -> None:
        """Say what should not be so."""
        self.strays.append(f"{self.name} {sentence}")
        self._note("stray", session, what=self.strays[-1])

    def _note(self, op: Op, session: str, **said: Any) -> None:
        self._history.add(Record(client=self.name, op=op, at=time.monotonic(), session=session, **said))
