"""`/api/v1/sessions`: a user's list, and starting one."""

from typing import Annotated, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.answers import answer, listing, session_in_full
from gateway.api.bodies import decode_body, limit_of
from gateway.api.callers import identify
from gateway.api.problems import Unprocessable
from gateway.api.services import Services
from gateway.errors import BadRequest, TooLarge
from gateway.ids import is_id
from gateway.protocol import frames
from gateway.protocol.codec import FrameError, check_document
from gateway.protocol.limits import Limits
from gateway.runtime.sessions import SessionSpec
from store.types import EMPTY_OBJECT, Listing

_PAGE: Final = 50
_MAX_PAGE: Final = 200
_EMPTY: Final = msgspec.Raw(EMPTY_OBJECT)


class NewSessionBody(msgspec.Struct):
    """The body of POST /sessions; `ttl` in seconds, `ttl_hours` for those who count in them."""

    title: frames.Title = ""
    text: str | None = None
    voice: frames.Name | None = None
    persistent: bool = False
    ttl: frames.Ttl | None = None
    ttl_hours: Annotated[float, msgspec.Meta(gt=0, le=frames.MAX_TTL_S / 3600)] | None = None
    exclusive: bool = False
    context: msgspec.Raw = _EMPTY
    metadata: msgspec.Raw = _EMPTY


class SessionRoutes:
    """The list of one's sessions and its growth."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(self, request: Request) -> Response:
        """GET /sessions?before=&limit= — latest first; `next` continues the list, null at its end."""
        identity = await identify(request, self._services)
        before = _position(request.query_params.get("before", ""))
        limit = limit_of(request, default=_PAGE, most=_MAX_PAGE)
        rows = await self._services.sessions.list_for(identity, before, limit)
        following = _mark(rows[-1]) if len(rows) == limit else None
        return answer({"sessions": [listing(row) for row in rows], "next": following})

    async def create(self, request: Request) -> Response:
        """POST /sessions — start one; its caller owns it."""
        identity = await identify(request, self._services)
        spec = _spec(await decode_body(request, NewSessionBody), self._services.limits)
        session = await self._services.sessions.create(identity, spec)
        data = {"session": session_in_full(session)}
        return answer(data, status=201, message="Session created successfully")


def _spec(body: NewSessionBody, limits: Limits) -> SessionSpec:
    ttl_s = body.ttl
    if ttl_s is None and body.ttl_hours is not None:
        ttl_s = max(1, round(body.ttl_hours * 3600))
    if body.persistent and ttl_s is not None:
        raise Unprocessable("A persistent session has no ttl: leave one of the two out.")
    if body.text is not None and len(body.text.encode()) > limits.message_bytes:
        raise TooLarge(f"text is at most {limits.message_bytes} bytes.")
    return SessionSpec(
        title=body.title,
        persistent=body.persistent,
        ttl_s=ttl_s,
        exclusive=body.exclusive,
        context=_document("context", body.context, limits),
        metadata=_document("metadata", body.metadata, limits),
        text=body.text,
        voice=body.voice,
    )


def _document(field: str, raw: msgspec.Raw, limits: Limits) -> bytes:
    document = frames.document(raw)
    if document is None:
        return EMPTY_OBJECT
    try:
        check_document(document, limits)
    except FrameError as fault:
        if fault.code == "too_large":
            raise TooLarge(f"{field} {fault.message}.") from fault
        raise Unprocessable(f"{field} {fault.message}.") from fault
    return document


def _mark(row: Listing) -> str:
    return f"{row.last_at}.{row.session.id}"


def _position(text: str) -> tuple[int, str] | None:
    if not text:
        return None
    last_at, _, session = text.partition(".")
    if not (last_at.isascii() and last_at.isdigit() and len(last_at) <= 15 and is_id(session)):
        raise BadRequest("before is the `next` of an earlier page.")
    return int(last_at), session
