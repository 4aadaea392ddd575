"""Requests that are answered without waiting: send, signal, read, detach, heartbeat.

The hot path of a connection.
"""

from functools import partial
from typing import TYPE_CHECKING

from gateway import errors
from gateway.protocol import frames, replies
from gateway.runtime.messages import NewMessage, draft_of, not_stored, refusal
from store.types import EMPTY_OBJECT, Appended, Mark, Refused

if TYPE_CHECKING:
    from gateway.fanout.room import Attachment
    from gateway.runtime.committer import Outcome
    from gateway.runtime.connection import Connection


def at_once(connection: "Connection", frame: frames.ClientFrame, size: int) -> bool:
    """Serve a request that needs no waiting; False for all others."""
    try:
        match frame:
            case frames.Send():
                _send(connection, frame, size)
            case frames.Heartbeat():
                _heartbeat(connection, frame)
            case frames.Signal():
                _signal(connection, frame, size)
            case frames.Read():
                _read(connection, frame)
            case frames.Detach():
                _detach(connection, frame)
            case _:
                return False
    except errors.GatewayError as error:
        connection.node.metrics.error(error.code)
        connection.answer(frame, error)
    return True


def error_frame(error: errors.GatewayError, request_id: str | None, session: str | None = None) -> bytes:
    """The frame that tells a client of a failed request; `session` where it had no id to be known by."""
    return replies.error(
        error.code, error.message, id=request_id, session=session, retry_after_ms=error.retry_after_ms
    )


def _send(connection: "Connection", frame: frames.Send, size: int) -> None:
    attachment = connection.may(connection.attachments.get(frame.session), "send")
    if attachment.epoch is None and attachment.room.is_exclusive:
        # Attached as a reader, and made a writer since. Without an epoch the log could not fence it off.
        raise errors.Superseded("this session is written by one: attach again to take it over")
    if connection.node.health.is_in("postgres_away"):
        # Nobody gains by waiting behind those who found out. It is asked every second whether it is back.
        raise not_stored()
    new = NewMessage(
        client_id=frame.id,
        content=frame.content,
        role=frame.role,
        metadata=frame.metadata or EMPTY_OBJECT,
    )
    now_ms = connection.node.clock.now_ms()
    draft = draft_of(connection.caller, frame.session, new, now_ms, attachment.epoch)
    _traffic(connection, attachment, size)
    if not connection.node.committer.offer(draft, partial(_sent, connection, frame.session, frame.id)):
        raise not_stored()


def _sent(connection: "Connection", session: str, request_id: str, outcome: "Outcome") -> None:
    if connection.is_closed:
        return
    match outcome:
        case Appended(seq=seq, created_at=created_at, duplicate=duplicate):
            connection.outlet.put(replies.ack(request_id, session, seq, created_at, duplicate))
        case Refused(code=code):
            connection.outlet.put(error_frame(refusal(code), request_id))
        case None:
            connection.outlet.put(error_frame(not_stored(), request_id))


def _traffic(connection: "Connection", attachment: "Attachment", size: int) -> None:
    room = attachment.room
    room.is_touched = True
    room.frames_in += 1
    room.bytes_in += size
    room.last_active = now = connection.node.clock.monotonic()
    connection.renew(now)
    if room.state != "active":
        room.step("traffic")
    elif not room.is_stirred:
        room.stir()


def _signal(connection: "Connection", frame: frames.Signal, size: int) -> None:
    attachment = connection.may(connection.attachments.get(frame.session), "signal")
    _traffic(connection, attachment, size)
    signal = replies.signal(frame.session, frame.name, frame.data, connection.user, connection.id)
    connection.node.publisher.signal(frame.session, signal, but=connection.id)
    if frame.id is not None:
        connection.outlet.put(replies.signal_answer(frame.id, frame.session, frame.name))


def _read(connection: "Connection", frame: frames.Read) -> None:
    attachment = connection.may(connection.attachments.get(frame.session), "mark")
    if frame.seq > attachment.room.relay.known:
        raise errors.BadRequest("the session has no such seq yet")
    connection.node.leases.mark(Mark(session=frame.session, user=connection.user, read=frame.seq))
    mark = replies.read_mark(frame.session, frame.seq, connection.user)
    # Ephemeral: a later one covers it, and a reader that lags is not buried under the markers of others.
    connection.node.publisher.signal(frame.session, mark, but=connection.id)
    if frame.id is not None:
        connection.outlet.put(replies.read_answer(frame.id, frame.session, frame.seq))


def _detach(connection: "Connection", frame: frames.Detach) -> None:
    attachment = connection.attachments.get(frame.session)
    if attachment is None:
        raise errors.NotAttached("this connection is not attached to the session")
    connection.node.detach(connection, attachment)
    if frame.id is not None:
        connection.outlet.put(replies.detached(frame.id, frame.session))


def _heartbeat(connection: "Connection", frame: frames.Heartbeat) -> None:
    node = connection.node
    now_ms = node.clock.now_ms()
    seen, is_news = frame.seen, False
    sessions: dict[str, replies.HeartbeatSession] = {}
    for session, attachment in connection.attachments.items():
        room = attachment.room
        room.touch(now_ms)
        ttl_ms = None if room.ttl_s is None else room.ttl_s * 1000
        sessions[session] = {"head": room.relay.head, "ttl_ms": ttl_ms}
        if seen:
            seq = min(seen.get(session, 0), room.relay.known)
            if seq > connection.seen.get(session, 0):
                connection.seen[session] = seq
                is_news = True
                node.leases.mark(Mark(session=session, user=connection.user, delivered=seq))
    if is_news:
        node.leases.confirmed(connection)
    connection.renew(node.clock.monotonic())
    connection.outlet.put(replies.heartbeat(frame.id, frame.ts, now_ms, sessions))
