"""The opening of a connection: who is it, may it stay, what does it take up again.

And the refresh of its credential.
"""

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from gateway import errors
from gateway.auth.identity import Identity
from gateway.protocol import frames, replies
from gateway.protocol.close import CloseCode
from gateway.runtime import resumption, sending
from gateway.runtime.attaching import arrived, enter, tell_lost
from gateway.runtime.holdings import LOST
from gateway.runtime.patience import away, has_run_out, limited
from store.errors import Unavailable

if TYPE_CHECKING:
    from gateway.runtime.connection import Connection
    from gateway.runtime.resumption import ResumeRecord

REVOKED: Final = "this token has been revoked: sign in again"
_BUSY: Final = "many others are coming back at this moment: try again when it is your turn"

_logger = structlog.get_logger("gateway.runtime")


async def greet(connection: "Connection", hello: frames.Hello) -> None:
    """Answer a hello: welcome, then one `attached` for each session taken up or asked for."""
    node = connection.node
    if hello.resume is not None and node.resumes.is_full:
        _put_off(connection, node.resumes.postpone(), hello.id)  # before any work is done for it
        return
    try:
        identity = await _identify(connection, hello)
    except errors.Unauthenticated as error:
        connection.refuse(error, request_id=hello.id)
        return
    except errors.Unavailable as error:
        connection.refuse(error, CloseCode.OVERLOADED, hello.id)
        return
    if hello.resume is not None:
        await _turn(connection, hello.id)
    if connection.is_over:
        return  # its resume token stays good, and the connection it would replace stays
    connection.recognised(identity)
    record = await _resume(connection, hello)
    token = resumption.new_token()
    if not await _admitted(connection, token, hello.id):
        return
    if connection.is_closed:
        await node.leases.forget_now(connection)
        return
    if connection.is_over:
        return
    connection.resume_token = token
    connection.peer.welcomed()
    await node.hub.listen(identity.tenant, identity.user, connection)
    if not node.revocations.holds(identity):
        # Revoked since it was looked at, when nobody was listening for this connection yet.
        connection.refuse(errors.Unauthenticated(REVOKED), request_id=hello.id)
        return
    _make_room(connection)
    facts = _welcome(connection, token, record is not None)
    connection.outlet.put(replies.welcome(msgspec.structs.replace(facts, id=hello.id)))
    if record is None:
        # Who is new here looks at the list next, and nobody waits for it. Who is back has one, and in a storm
        # the readings would be in the way of those who are yet to come.
        node.records.warm(identity.tenant, identity.user)
    await _take_up(connection, hello, record)


async def _identify(connection: "Connection", hello: frames.Hello) -> Identity:
    node = connection.node
    if hello.ticket is not None:
        try:
            identity = await node.tickets.redeem(hello.ticket)
        except Unavailable as error:
            raise errors.Unavailable("tickets cannot be checked now: try again") from error
        if identity is None:
            raise errors.Unauthenticated("the ticket is unknown, used or too old: get a new one")
    else:
        token = hello.token or connection.bearer
        if token is None:
            raise errors.Unauthenticated("a ticket or token is needed: put one into hello")
        identity = await node.tokens.verify(token)
    connection.bearer = None
    if not node.revocations.holds(identity):
        raise errors.Unauthenticated(REVOKED)
    return identity


async def _turn(connection: "Connection", request_id: str | None) -> None:
    """Wait until one more may resume here; put off, and over, where many others wait already."""
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def enter() -> bool:
        if turn.done():
            return False  # cancelled: the node stops
        turn.set_result(None)
        return not connection.is_over

    put_off_s = connection.node.resumes.join(enter)
    if put_off_s is None:
        await turn
    else:
        _put_off(connection, put_off_s, request_id)


def _put_off(connection: "Connection", seconds: float, request_id: str | None) -> None:
    error = errors.Unavailable(_BUSY, retry_after_ms=math.ceil(seconds * 1000))
    connection.node.metrics.error(error.code)
    connection.refuse(error, CloseCode.OVERLOADED, request_id)


async def _resume(connection: "Connection", hello: frames.Hello) -> "ResumeRecord | None":
    """Use the resume token up, and take the lost connection's place in the indexes."""
    node = connection.node
    identity = connection.caller
    if hello.resume is None:
        node.metrics.resume("none")
        return None
    await node.leases.settle(hello.resume)
    record = await node.resumption.take(hello.resume, identity.tenant, identity.user)
    node.metrics.resume("resumed" if record is not None else "stale")
    if record is None:
        return None
    connection.predecessor = record.connection
    record = await node.leases.hand_over(record, node.connections.get(record.connection))
    node.leases.holdings.inherit(connection, record.epochs)
    return record


async def _admitted(connection: "Connection", token: str, request_id: str | None) -> bool:
    node = connection.node
    limit = node.settings.connections_per_user
    try:
        admitted = await node.leases.admit(connection, limit, token)
    except Unavailable:
        return (
            True  # the indexes are soft state: without them the limit is not kept, and nobody is locked out
        )
    if not admitted:
        error = errors.LimitReached(f"{limit} connections of one user are allowed: close one first")
        connection.refuse(error, CloseCode.OVERLOADED, request_id)
    return admitted


def _make_room(connection: "Connection") -> None:
    """Close the user's oldest connections here above twice the limit.

    Who has moved away leaves one behind that nobody counts any more, for as long as a move may take and until
    this node has heard of it: many, of somebody who moves to and fro all the time.
    """
    node = connection.node
    theirs = node.hub.listeners(connection.caller.tenant, connection.user)
    for listener in theirs[: max(0, len(theirs) - 2 * node.settings.connections_per_user)]:
        oldest = node.connections.get(listener.id)
        if oldest is not None and not oldest.is_over:
            oldest.hang(CloseCode.NODE_LEAVING, "another connection has taken this one's place")


def _welcome(connection: "Connection", token: str, resumed: bool) -> replies.WelcomeFacts:
    node = connection.node
    return replies.WelcomeFacts(
        connection=connection.id,
        user=connection.user,
        tenant=connection.caller.tenant,
        node=node.id,
        resume=token,
        resumed=resumed,
        interval_ms=node.settings.heartbeat_ms,
        timeout_ms=node.settings.heartbeat_timeout_ms,
        limits=node.limits,
        now=node.clock.now_ms(),
    )


async def _take_up(connection: "Connection", hello: frames.Hello, record: "ResumeRecord | None") -> None:
    wanted: dict[str, int | None] = dict(record.sessions) if record is not None else {}
    for reference in hello.attach:
        if reference.since is not None or reference.session not in wanted:
            wanted[reference.session] = reference.since
    held = dict(record.epochs) if record is not None else {}
    fault: errors.Unavailable | None = None
    begun = connection.node.clock.monotonic()
    for session, since in wanted.items():
        if connection.is_over:
            return
        try:
            if has_run_out(begun, connection.node.clock.monotonic()):
                fault = fault or away()
            if fault is not None:
                raise fault  # those before have waited for the log for long, or in vain: the others need not
            async with limited(connection.node.health):
                await _again(connection, session, since, held.get(session))
        except errors.GatewayError as error:
            fault = error if isinstance(error, errors.Unavailable) else fault
            connection.node.metrics.error(error.code)
            connection.outlet.put(sending.error_frame(error, None, session))
    for session in [session for session, epoch in held.items() if epoch == LOST and session not in wanted]:
        if fault is not None or connection.is_over:
            break  # most have heard of it the first time
        with suppress(errors.GatewayError):
            async with limited(connection.node.health):
                await tell_lost(connection, session)
    await arrived(connection)


async def _again(connection: "Connection", session: str, since: int | None, held: int | None) -> None:
    """Attach, but leave what the client held to whoever has taken it over meanwhile."""
    try:
        await enter(connection, session, since, None, held)
    except errors.Superseded:
        if held is None:
            raise
        await tell_lost(connection, session)


async def refresh(connection: "Connection", frame: frames.Refresh) -> None:
    """Exchange the credential for a newer one of the same user."""
    node = connection.node
    before = connection.caller
    identity = await node.tokens.verify(frame.token)
    if (identity.tenant, identity.user) != (before.tenant, before.user):
        raise errors.Forbidden("the new token is another user's: open a new connection for them")
    if not node.revocations.holds(identity):
        raise errors.Unauthenticated(REVOKED)
    connection.recognised(identity)
    connection.outlet.put(replies.refreshed(frame.id, identity.expires_at))
