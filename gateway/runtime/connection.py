"""One connection.

What its peer sends is answered at once where nothing has to be awaited, and else by one worker at a time.
"""

import asyncio
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from gateway import errors
from gateway.auth.identity import Identity
from gateway.auth.policy import Action, allows
from gateway.fanout.outlet import Outlet
from gateway.fanout.room import Attachment
from gateway.protocol import frames, peer, replies
from gateway.protocol.close import CloseCode
from gateway.runtime import sending
from gateway.runtime.resumption import Kept
from store.types import ConnectionEntry

if TYPE_CHECKING:
    from gateway.runtime.node import Node

# Requests that wait while an earlier one of the same connection is awaited. A client that wants more waits
# for its answers.
BACKLOG_FRAMES: Final = 64
BACKLOG_BYTES: Final = 512 * 1024
# What a client without patience is told: most requests are answered in a fraction of this.
BACKLOG_RETRY_MS: Final = 250
# PROTOCOL: a client hears of the expiry a minute ahead, and may be late by 25 s.
EXPIRY_NOTICE_S: Final = 60.0
EXPIRY_GRACE_S: Final = 25.0

_logger = structlog.get_logger("gateway.runtime")


class Connection:
    """Behind one socket. Implements the edge's Handler, fan-out's Reader and the hub's Listener.

    Requests of one connection take effect in the order sent: while one is awaited, the following ones wait
    in `_backlog`.
    """

    __slots__ = (
        "__weakref__", "_backlog", "_backlog_bytes", "_close_at", "_hello_by", "_is_busy",
        "_leave_by", "_migrate_at", "_notice_at", "_renew_at", "attachments", "bearer", "id", "identity",
        "ip", "is_closed", "is_handed_over", "is_over", "kept", "lease", "node", "outlet", "peer", "port",
        "predecessor", "resume_token", "rtt_ms", "seen", "since", "user",
    )  # fmt: skip

    def __init__(
        self, node: "Node", connection_id: str, bearer: str | None, address: tuple[str, int]
    ) -> None:
        self.node = node
        self.id = connection_id
        self.bearer = bearer
        self.ip, self.port = address
        self.user = ""
        self.identity: Identity | None = None
        self.outlet: Outlet  # from on_open on
        self.peer: peer.Peer
        self.attachments: dict[str, Attachment] = {}
        self.seen: dict[str, int] = {}  # the last seq confirmed by the client, by session
        self.since = node.clock.now_ms()
        self.resume_token: str | None = None
        # Of the leases: its entry and its resume record as they were written last.
        self.lease: ConnectionEntry | None = None
        self.kept: Kept | None = None
        self.is_handed_over = False  # another connection has taken this one's attachments up
        self.predecessor: str | None = None  # the connection whose attachments this one has taken up
        self.is_closed = False
        self.is_over = False  # closed, or told to close: nothing it asked for is begun any more
        self.rtt_ms: float | None = None
        self._backlog: deque[tuple[frames.ClientFrame, int]] = deque()
        self._backlog_bytes = 0
        self._is_busy = False
        self._hello_by = self._notice_at = self._close_at = math.inf
        self._migrate_at = self._leave_by = math.inf
        self._renew_at = math.inf  # from when on a heartbeat has this connection's entries written again

    # -- the edge's Handler

    def on_open(self, outlet: Outlet) -> None:
        """The handshake is done; the hello is awaited."""
        now = self.node.clock.monotonic()
        self.outlet = outlet
        self.peer = peer.Peer(self.node.limits, now)
        self._hello_by = now + self.node.settings.hello_timeout_s
        self.node.connections[self.id] = self

    def on_text(self, data: bytes, now: float) -> None:
        """Take one text message."""
        if now >= self.node.lease.fence_at:
            self.node.lease.watch()
            return
        self.node.frames_in += 1
        self._act(self.peer.receive(data, now), len(data))

    def on_binary(self, data: bytes, now: float) -> None:
        """Take one binary message."""
        if now >= self.node.lease.fence_at:
            self.node.lease.watch()
            return
        self.node.frames_in += 1
        self._act(self.peer.binary(len(data), now), len(data))

    def on_rtt(self, ms: float) -> None:
        """A WebSocket ping of ours was answered."""
        self.rtt_ms = ms
        for attachment in self.attachments.values():
            attachment.room.rtt_ms = ms
        if self.node.leases.holdings.answered(self, self.node.clock.monotonic() - ms / 1000):
            self.node.leases.confirmed(self)

    def on_drained(self) -> None:
        """The peer reads again: go on where it fell behind."""
        for attachment in list(self.attachments.values()):
            self.node.hub.catch_up(attachment)

    def on_closed(self, code: int) -> None:
        """The socket is gone."""
        self.is_closed = self.is_over = True
        self.peer.lost()
        self._backlog.clear()
        self.node.departed(self, code)

    def check(self, now: float) -> float:
        """See to this connection's deadlines; the time of the next one."""
        if now >= self.node.lease.fence_at:
            # It was not this client that was silent for so long.
            self.node.lease.watch()
        if now >= self._hello_by:
            self._hello_by = math.inf
            self.hang(CloseCode.PROTOCOL_VIOLATION, "no hello came in time")
        if now >= self._close_at:
            self._close_at = math.inf
            self.hang(CloseCode.TOKEN_EXPIRED, "the token has expired")
        if now >= self._leave_by:
            self._leave_by = math.inf
            self.hang(CloseCode.NODE_LEAVING, "this connection was to move")
        if self.peer.state is not peer.State.AUTHENTICATING:
            self._check_stay(now)
        return self._due

    @property
    def _due(self) -> float:
        """The nearest deadline."""
        unheard = self._renew_at + self.node.leases.patience_s
        return min(self._hello_by, self._notice_at, self._migrate_at, self._close_at, self._leave_by, unheard)

    def _check_stay(self, now: float) -> None:
        """What a client is told only after its welcome."""
        if now >= self._notice_at:
            self._notice_at = math.inf
            self.outlet.put(replies.expiring(max(0, self._expires_in_ms())))
        if now >= self._migrate_at:
            self.migrate("lifetime", now)
        if now >= self._renew_at + self.node.leases.patience_s:
            # Whatever its client sends: as long as the socket is open it counts as a connection.
            self.renew(now)

    def renew(self, now: float) -> None:
        """Have this connection's entries written again, and the records of its sessions, if that is due.

        With its heartbeats: then all of it is at hand, and not fetched once more for the sake of this.
        """
        if now >= self._renew_at:
            self._renew_at = now + self.node.leases.renew_s
            self.node.leases.changed(self)
            for attachment in self.attachments.values():
                attachment.room.stir()

    # -- fan-out's Reader, the hub's Listener

    def left(self, session: str) -> None:
        """A room has let this connection go."""
        attachment = self.attachments.pop(session, None)
        self.seen.pop(session, None)
        if attachment is not None and attachment.is_outdated:
            self.node.leases.holdings.lose(self, session)
        else:
            self.node.leases.holdings.settle(self, session)
        if self.identity is not None:
            self.node.presence.left(self.identity.tenant, session, self.user)
        self.node.leases.changed(self)

    def revoked(self, before: int) -> None:
        """The user's tokens from before this moment are worthless."""
        if self.identity is not None and self.identity.issued_at < before:
            self.refuse(errors.Unauthenticated("this token has been revoked: sign in again"))

    def disconnected(self) -> None:
        """Its user or an operator has ended it: its client is not to come back by itself."""
        if not self.is_over:
            self.hang(
                CloseCode.DISCONNECTED_BY_OPERATOR, "this connection was ended by its user or an operator"
            )

    # -- what the rest of the runtime does with a connection

    @property
    def caller(self) -> Identity:
        """Who is at the other end; known since the welcome, and asked for only after it."""
        if self.identity is None:
            raise RuntimeError("nobody has been recognised yet")
        return self.identity

    @property
    def of_client(self) -> tuple[str, ...]:
        """This connection and, while its client moves, the one it comes from."""
        return (self.id,) if self.predecessor is None else (self.id, self.predecessor)

    @property
    def entry(self) -> ConnectionEntry:
        """What the live indexes hold of this connection."""
        return ConnectionEntry(
            id=self.id,
            tenant=self.caller.tenant,
            user=self.user,
            node=self.node.id,
            since=self.since,
            sessions=tuple(self.attachments),
            ip=self.ip,
            port=self.port,
            incarnation=self.node.lease.incarnation,
        )

    def recognised(self, identity: Identity) -> None:
        """The credential is good: keep its deadlines, those of a refresh included."""
        self.identity = identity
        self.user = identity.user
        now = self.node.clock.monotonic()
        expires = now + self._expires_in_ms() / 1000
        self._notice_at = max(now, expires - EXPIRY_NOTICE_S)
        self._close_at = expires + EXPIRY_GRACE_S
        self._hello_by = math.inf
        # With the first heartbeat, which comes when chance will have it; a refresh puts nothing off.
        self._renew_at = min(self._renew_at, now)
        if self._migrate_at == self._leave_by == math.inf:
            # ± 10 %: connections made in one storm must not all move in one.
            self._migrate_at = now + self.node.settings.connection_lifetime_s * random.uniform(0.9, 1.1)  # noqa: S311
        self.outlet.hasten(self._due)

    def _expires_in_ms(self) -> int:
        return self.caller.expires_at - self.node.clock.now_ms()

    def migrate(self, reason: replies.MigrateReason, now: float) -> None:
        """Ask the client to move; at the deadline the connection is closed, and its client resumes."""
        deadline_s = self.node.settings.drain_s
        self.leave_by(now + deadline_s)
        self.ask_to_move(reason, 0, int(deadline_s * 1000))

    def leave_by(self, deadline: float) -> None:
        """Close this connection with 4000 at the deadline, or at an earlier one if there is one."""
        self._leave_by = min(self._leave_by, deadline)
        self.outlet.hasten(self._leave_by)

    def ask_to_move(
        self, reason: replies.MigrateReason, slot_ms: int, deadline_ms: int, url: str | None = None
    ) -> None:
        """Ask the client to move after its slot, to `url` or by the address it knows.

        Whoever asks keeps the deadline: by `leave_by`, or, when the node leaves, with what is in flight
        answered first.
        """
        self._migrate_at = math.inf
        self.peer.draining()
        self.outlet.put(replies.migrate(slot_ms, deadline_ms, url, reason))

    def step_aside(self) -> None:
        """Another connection has taken this one's place: it has the time of a move left.

        And what it replaced itself has none any more, or a chain of them would stay beside the limit.
        """
        self.is_handed_over = True
        self.leave_by(self.node.clock.monotonic() + self.node.settings.drain_s)
        before = None if self.predecessor is None else self.node.connections.get(self.predecessor)
        if before is not None:
            before.hang(CloseCode.NODE_LEAVING, "another connection has taken this one's place")

    def answer(self, request: frames.ClientFrame, error: errors.GatewayError) -> None:
        """Tell the client that a request failed, and why."""
        self.outlet.put(sending.error_frame(error, request.id))

    def refuse(
        self,
        error: errors.GatewayError,
        code: CloseCode = CloseCode.UNAUTHENTICATED,
        request_id: str | None = None,
    ) -> None:
        """Tell the client why it may not stay, and close."""
        self.outlet.put(sending.error_frame(error, request_id))
        self.hang(code, error.message)

    def hang(self, code: CloseCode, reason: str) -> None:
        """Close the connection. What waits in the backlog is not begun."""
        self.is_over = True
        self._backlog.clear()
        self._backlog_bytes = 0
        self.peer.closing()
        self.outlet.close(int(code), reason)

    # -- requests

    def _act(self, outcome: peer.Outcome, size: int) -> None:
        match outcome:
            case peer.Do(frame):
                self._take(frame, size)
            case peer.Answer(data):
                self.outlet.put(data)
            case peer.Greet(hello):
                self._hello_by = math.inf
                self._is_busy = True
                self.node.spawn(self._work(hello))
            case peer.Hang(code, reason):
                self.hang(code, reason)
            case peer.Nothing():
                pass
            case _:
                assert_never(outcome)

    def _take(self, frame: frames.ClientFrame, size: int) -> None:
        if not self._is_busy:
            self._start(frame, size)
        elif len(self._backlog) < BACKLOG_FRAMES and self._backlog_bytes + size <= BACKLOG_BYTES:
            self._backlog.append((frame, size))
            self._backlog_bytes += size
        else:
            told = "too many requests are waiting: await their answers first"
            self.answer(frame, errors.RateLimited(told, retry_after_ms=BACKLOG_RETRY_MS))

    def _start(self, frame: frames.ClientFrame, size: int) -> None:
        if not sending.at_once(self, frame, size):
            self._is_busy = True
            self.node.spawn(self._work(frame))

    async def _work(self, frame: frames.ClientFrame) -> None:
        """Serve a request that has to be awaited, then whatever has come meanwhile."""
        following: frames.ClientFrame | None = frame
        try:
            while following is not None:
                await self._serve(following)
                following = self._next_to_await()
        except asyncio.CancelledError:
            # The node stops in the middle of a request: its client resumes elsewhere and asks again.
            self.hang(CloseCode.NODE_LEAVING, "the node is leaving")
            raise
        except Exception:
            # A bug: its trace is for us, the peer is told nothing but to come back.
            _logger.exception("request_failed", connection=self.id, request=type(following).__name__)
            self.hang(CloseCode.INTERNAL_ERROR, "")
        finally:
            self._is_busy = False

    def _next_to_await(self) -> frames.ClientFrame | None:
        while self._backlog:
            frame, size = self._backlog.popleft()
            self._backlog_bytes -= size
            if not sending.at_once(self, frame, size):
                return frame
        return None

    async def _serve(self, frame: frames.ClientFrame) -> None:
        try:
            await self.node.requests.serve(self, frame)
        except errors.GatewayError as error:
            self.node.metrics.error(error.code)
            self.answer(frame, error)

    def may(self, attachment: Attachment | None, action: Action) -> Attachment:
        """The attachment, if its role allows the action."""
        if attachment is None:
            raise errors.NotAttached("attach to the session first")
        if not allows(attachment.role, action):
            raise errors.Forbidden(f"a {attachment.role} of this session may not do that")
        return attachment
