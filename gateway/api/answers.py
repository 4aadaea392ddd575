"""Successful answers: the envelope, and sessions and members as JSON."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from gateway.protocol.codec import Fragment, json_bytes
from gateway.protocol.replies import message_shape, rfc3339
from store.types import Listing, Member, Message, Session

_NULL: Final = Fragment(b"null")


def answer(
    data: Mapping[str, object],
    *,
    status: int = 200,
    message: str = "OK",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build a successful answer: `{"code", "message", "data"}`."""
    body = json_bytes({"code": status, "message": message, "data": data})
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def version_tag(session: Session) -> dict[str, str]:
    """The header by which a caller can make the next change depend on this version."""
    return {"ETag": f'"{session.version}"'}


def when(at: int | None) -> str | None:
    """A wall-clock time as the protocol writes it; None stays None."""
    return None if at is None else rfc3339(at)


def session_summary(session: Session) -> dict[str, object]:
    """A session without its documents and text: what a list shows of it."""
    return {
        "id": session.id,
        "title": session.title,
        "owner": session.owner,
        "status": session.status,
        "persistent": session.ttl_s is None,
        "exclusive": session.exclusive,
        "ttl_s": session.ttl_s,
        "expires_at": when(session.expires_at),
        "head": session.head,
        "epoch": session.epoch,
        "version": session.version,
        "created_at": when(session.created_at),
        "updated_at": when(session.updated_at),
        "ended_at": when(session.ended_at),
        "end_reason": session.end_reason,
    }


def session_in_full(session: Session) -> dict[str, object]:
    """A session with everything it holds but its messages and members."""
    return {
        **session_summary(session),
        "context": Fragment(session.context),
        "metadata": Fragment(session.metadata),
        "text": session.text,
        "voice": session.voice,
        "sentences": _NULL if session.sentences is None else Fragment(session.sentences),
    }


def message_in_full(message: Message) -> dict[str, object]:
    """A message as readers get it, but that it is no frame and has no `type`."""
    fields: dict[str, object] = {**message_shape(message)}
    del fields["type"]
    return fields


def listing(row: Listing) -> dict[str, object]:
    """A session as one line of its member's list."""
    return {
        **session_summary(row.session),
        "role": row.role,
        "read": row.read,
        "unread": row.unread,
        "last_at": when(row.last_at),
        "preview": row.preview,
    }


def member(row: Member, read: int) -> dict[str, object]:
    """A member, and the seq up to which they have read."""
    return {"user": row.user, "role": row.role, "since": when(row.since), "read": read}
