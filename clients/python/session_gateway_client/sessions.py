"""All sessions of one client: which frames are whose, and what to do about holes and full inboxes."""

import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from session_gateway_client.clock import within
from session_gateway_client.echoes import Echoes
from session_gateway_client.errors import (
    ClientError,
    ConnectionLost,
    OutboxFull,
    Refused,
    RequestTimeout,
    SessionEnded,
)
from session_gateway_client.feed import Feed
from session_gateway_client.inbox import Inbox, Judgement
from session_gateway_client.link import Link
from session_gateway_client.options import Options
from session_gateway_client.outbox import Outbox
from session_gateway_client.requests import Requests
from session_gateway_client.session import Session
from session_gateway_client.tasks import Tasks
from session_gateway_client.values import Frame, Message, PresenceChanged, ReadMarked, SessionChanged, Signal

logger: Final = logging.getLogger("session_gateway_client")

TERMINAL_EVENTS: Final = frozenset({"closed", "expired", "deleted", "superseded"})
# After a heartbeat said that there is more than we have: time for what is under way to arrive.
GAP_GRACE_S: Final = 2.0
# How long a full inbox whose session was never read waits for a first reader, once.
READER_GRACE_S: Final = 1.0
# After a welcome: time for the gateway to answer the attachments named in the hello.
SETTLE_S: Final = 5.0


class Owner(Protocol):
    """The supervisor, as its sessions see it."""

    @property
    def current(self) -> Link | None:
        """The link that requests and messages use."""

    @property
    def successor(self) -> Link | None:
        """The link the client is moving to."""

    def awaits_replies(self) -> bool:
        """Whether somebody waits for an ack or a reply."""

    def wake(self) -> None:
        """Have every link look again."""


class Sessions:
    """The registry, and the receiver of every frame that names a session.

    Each session's messages are judged by seq alone, whichever link brings them; so two links may overlap.
    """

    def __init__(
        self, owner: Owner, requests: Requests, outbox: Outbox, feed: Feed, tasks: Tasks, options: Options
    ) -> None:
        self._owner = owner
        self._requests = requests
        self._outbox = outbox
        self._feed = feed
        self._tasks = tasks
        self._options = options
        self._echoes = Echoes(options.clock)
        self._sessions: dict[str, Session] = {}
        # Attached by a request whose asker has not taken it yet.
        self._unclaimed: dict[str, Session] = {}
        # Sessions whose attachment is being renewed: what is beyond the cursor meanwhile is dropped without a
        # word.
        self._renewing: set[str] = set()
        self._handlers: dict[str, Callable[[Link, Session, Frame], None]] = {
            "live": self._live,
            "detached": self._detached,
            "session": self._changed,
        }

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._sessions.values()))

    def __contains__(self, id: str) -> bool:
        return id in self._sessions

    def get(self, id: str) -> Session | None:
        """The session, if it is attached."""
        return self._sessions.get(id)

    def cursors(self) -> list[tuple[str, int]]:
        """Where each session goes on, for a hello."""
        return [(session.id, session.inbox.cursor) for session in self]

    def seen(self) -> dict[str, int]:
        """The delivered watermarks: what the application has really been given."""
        return {session.id: session.inbox.taken for session in self}

    def are_live_on(self, link: Link) -> bool:
        """Whether this link alone would bring everything."""
        return all(id in link.live for id in self._sessions)

    def remove(self, session: Session) -> None:
        """Forget a session that has ended for this client."""
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]
            if session.ended is not None:
                self._outbox.abandon(session.id, session.ended)
            self._owner.wake()

    def drop(self, request: str) -> None:
        """Leave the session that was attached by this request, if one was: who asked has gone."""
        session = self._unclaimed.pop(request, None)
        if session is not None and session.ended is None:
            session.end(SessionEnded("detached", "nobody waited for it"))
            self.remove(session)
            self._requests.offer({"type": "detach", "session": session.id})

    def claim(self, request: str, id: str) -> Session | None:
        """Take over the session that this request has attached, or that another had attached before."""
        return self._unclaimed.pop(request, None) or self._sessions.get(id)

    def end_all(self, error: ClientError) -> None:
        """The client is done: so are its sessions."""
        for session in self:
            session.end(error)
        self._sessions.clear()

    # -- receiving

    async def receive(self, link: Link, frame: Frame, size: int) -> None:
        """Take a frame that names a session."""
        kind = frame["type"]
        if kind == "message":
            await self._message(link, frame, size)
        elif kind == "attached":
            self._attached(link, frame)
        elif kind in ("signal", "presence", "read"):
            self._ephemeral(link, frame)
        elif (session := self._sessions.get(frame["session"])) and (handler := self._handlers.get(kind)):
            handler(link, session, frame)

    async def _message(self, link: Link, frame: Frame, size: int) -> None:
        session = self._sessions.get(frame["session"])
        if session is None:
            return
        seq = int(frame["seq"])
        session.head = max(session.head, seq)
        if session.inbox.judge(seq) is Judgement.NEXT and session.inbox.is_full:
            await self._make_room(link, session)
        # Judged after the waiting: another link may have brought it meanwhile.
        judgement = session.inbox.judge(seq)
        if judgement is Judgement.KNOWN or session.inbox.is_lagging:
            return
        if judgement is Judgement.BEYOND:
            self._renew(session, link, f"seq {seq} came after {session.inbox.cursor}")
        elif session.inbox.is_full:
            session.inbox.is_lagging = True
        else:
            session.accept(Message.of(frame), size)

    async def _make_room(self, link: Link, session: Session) -> None:
        """Stop reading the socket until the session's reader has made room.

        The operating system's buffers then fill, and the gateway stops sending and reads the rest from its
        log later. Two cases must not stop it, and let the inbox lag instead. Nobody has ever read this
        session: a program that only sends needs its acks. Somebody waits for an ack or a reply, which may be
        behind this message: if the waiting one is the reader, neither would ever go on.
        """
        waiting = link.until(lambda: not session.inbox.is_full or self._owner.awaits_replies())
        link.is_paused = True
        try:
            if session.has_reader:
                await waiting
            else:
                await within(self._options.clock, READER_GRACE_S, waiting)
        except TimeoutError:
            logger.debug("nobody reads %s; its messages are left in the log", session.id)
        finally:
            link.is_paused = False

    def _attached(self, link: Link, frame: Frame) -> None:
        session = self._sessions.get(frame["session"])
        if session is None:
            id = frame.get("id")
            if id is None or not link.expects(id):
                # Who asked for it has gone (cancelled, or timed out), or left it while the gateway took it
                # over.
                link.offer({"type": "detach", "session": frame["session"]})
                return
            session = self._add(frame)
        else:
            session.refresh(frame)
        self._renewing.discard(session.id)
        # What was dropped at the bound comes again.
        session.inbox.is_lagging = False
        if frame.get("since") is not None and int(frame["since"]) > session.inbox.cursor:
            self._renew(
                session, link, f"attached since {frame['since']}, the cursor is {session.inbox.cursor}"
            )
        link.mark(session.id, live=session.inbox.cursor >= int(frame["head"]))

    def _add(self, frame: Frame) -> Session:
        inbox = Inbox(
            max_messages=self._options.queue_messages,
            max_bytes=self._options.queue_bytes,
            cursor=int(frame["head"] if frame.get("since") is None else frame["since"]),
        )
        session = Session(self._requests, self, frame, inbox)
        self._sessions[session.id] = session
        self._unclaimed[frame["id"]] = session
        if self._owner.successor is not None:
            self._renew(session, self._owner.successor, "attached in the middle of a move")
        return session

    def _live(self, link: Link, session: Session, frame: Frame) -> None:
        session.head = max(session.head, int(frame["seq"]))
        link.mark(session.id, live=True)

    def _detached(self, link: Link, session: Session, frame: Frame) -> None:
        link.unmark(session.id)
        # Not at our request: the right to read it was taken away, or it moved.
        if frame.get("id") is None and link is self._owner.current:
            session.end(SessionEnded("forbidden", str(frame.get("reason") or "detached by the gateway")))
            self.remove(session)

    def _changed(self, link: Link, session: Session, frame: Frame) -> None:
        event, version = str(frame["event"]), frame.get("version")
        changes = frame.get("changes") or {}
        # With two links it comes twice.
        if event not in TERMINAL_EVENTS and version is not None and version <= (session.version or 0):
            return
        session.version = version if version is not None else session.version
        session.title = changes.get("title", session.title)
        self._feed.publish(SessionChanged(session.id, event, version, changes))
        if event in TERMINAL_EVENTS:
            session.end(SessionEnded(event, f"the session is {event}"))
            self.remove(session)

    def _ephemeral(self, link: Link, frame: Frame) -> None:
        # Replies are their asker's, not events. During a move two links bring the same; the current one's
        # counts, and at the moment of the switch what the other one has brought already does not.
        if frame.get("id") is not None and link.expects(frame["id"]):
            return
        if link is not self._owner.current:
            self._echoes.passes(link, frame)
            return
        if not self._echoes.takes(link, frame):
            return
        match frame["type"]:
            case "signal":
                self._feed.publish(
                    Signal(
                        frame.get("session"),
                        frame["name"],
                        frame.get("data"),
                        frame.get("sender"),
                        frame.get("connection"),
                    )
                )
            case "presence" if "event" in frame:
                self._feed.publish(
                    PresenceChanged(
                        frame["session"], frame["event"], frame["user"], int(frame.get("connections", 0))
                    )
                )
            case "read" if "user" in frame:
                self._feed.publish(ReadMarked(frame["session"], frame["user"], int(frame["seq"])))

    # -- attaching again

    def heads(self, link: Link, heads: Frame) -> None:
        """Compare what a heartbeat's answer says is there with what we have."""
        for id, entry in heads.items():
            session = self._sessions.get(id)
            if session is None:
                continue
            session.head = max(session.head, int(entry["head"]))
            if (
                session.head > session.inbox.cursor
                and not session.inbox.is_lagging
                and link is self._owner.current
            ):
                self._tasks.spawn(
                    self._look_for_gap(session, link, session.inbox.cursor), "gateway gap check"
                )

    async def _look_for_gap(self, session: Session, link: Link, cursor: int) -> None:
        await self._options.clock.sleep(GAP_GRACE_S)
        if session.inbox.cursor == cursor < session.head and link.is_up and not link.is_paused:
            self._renew(session, link, f"nothing arrives after {cursor}, the head is {session.head}")

    def taken(self, session: Session) -> None:
        """A message was read: there is room. A lagging inbox catches up once half of it is free."""
        self._owner.wake()
        if session.inbox.is_lagging and session.inbox.is_low and session.ended is None:
            session.inbox.is_lagging = False
            link = self._owner.current
            if link is not None:
                self._renew(session, link, "catching up")

    def settle(self, link: Link, named: set[str]) -> None:
        """See to it that every session is attached on a new link; `named` are those its hello did name."""
        missing = [session for session in self if session.id not in named]
        for session in missing:
            self._renew(session, link, "not in the hello")
        if named:
            self._tasks.spawn(self._settle(link), "gateway settling")

    async def _settle(self, link: Link) -> None:
        # An attachment of the hello that is refused gets an error that does not say which it was. Asked for
        # again by itself, its answer does.
        await self._options.clock.sleep(SETTLE_S)
        self.attach_missing(link)

    def attach_missing(self, link: Link) -> None:
        """Attach, one by one, what is not attached on this link."""
        for session in self:
            if link.is_up and session.id not in link.attached:
                self._renew(session, link, "not attached")

    def refused(self, id: str, link: Link, error: Refused) -> None:
        """An attachment of the hello was refused: for now, or for good."""
        session = self._sessions.get(id)
        if session is None:
            return
        if error.retryable:
            self._renew(session, link, str(error))
        else:
            session.end(SessionEnded(error.code, error.message))
            self.remove(session)

    def _renew(self, session: Session, link: Link, why: str) -> None:
        if session.id in self._renewing:
            return
        logger.debug("attaching %s again from %d: %s", session.id, session.inbox.cursor, why)
        self._renewing.add(session.id)
        self._tasks.spawn(self._attach(session, link), "gateway attach")

    async def _attach(self, session: Session, link: Link) -> None:
        try:
            await self._requests.ask_on(
                link, {"type": "attach", "session": session.id, "since": session.inbox.cursor}
            )
        except Refused as refused:
            session.end(SessionEnded(refused.code, refused.message))
            self.remove(session)
        except (ConnectionLost, OutboxFull, RequestTimeout) as error:
            # The next hello names it, or the next heartbeat finds the gap.
            logger.debug("attaching %s again failed: %r", session.id, error)
        finally:
            self._renewing.discard(session.id)
