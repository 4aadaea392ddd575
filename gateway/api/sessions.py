"""`/api/v1/sessions`: a user's list, and one session: started, shown, changed, deleted."""

from typing import Annotated, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.answers import (
    answer,
    listing,
    message_in_full,
    session_in_full,
    session_summary,
    version_tag,
)
from gateway.api.bodies import (
    context_of,
    decode_body,
    document_of,
    expected_version,
    limit_of,
    number_of,
    session_of,
)
from gateway.api.callers import identify
from gateway.api.places import mark_of, position
from gateway.api.problems import PreconditionFailed, Unprocessable
from gateway.api.services import Services
from gateway.auth.identity import Identity
from gateway.errors import Conflict, TooLarge, Unavailable
from gateway.ids import is_name
from gateway.protocol import frames
from gateway.protocol.limits import Limits
from gateway.runtime.sessions import SessionSpec
from store.types import EMPTY_OBJECT, Change, Role, Status

_PAGE: Final = 50
_MAX_PAGE: Final = 200
# With one session: the latest of its messages.
_MAX_MESSAGES: Final = 1_000

TtlHours = Annotated[float, msgspec.Meta(gt=0, le=frames.MAX_TTL_S / 3600)]


class NewMember(msgspec.Struct):
    """Somebody who is a member from the beginning."""

    user: str
    role: Literal["writer", "reader"] = "writer"


class NewSessionBody(msgspec.Struct):
    """The body of POST /sessions; `ttl` in seconds, `ttl_hours` for those who count in them."""

    title: frames.Title = ""
    text: str | None = None
    voice: frames.Name | None = None
    persistent: bool = False
    ttl: frames.Ttl | None = None
    ttl_hours: TtlHours | None = None
    exclusive: bool = False
    context: msgspec.Raw = frames.ABSENT
    metadata: msgspec.Raw = frames.ABSENT
    members: list[NewMember] = []


class SessionChange(msgspec.Struct):
    """The body of PATCH /sessions/{id}; what is absent or null stays as it is."""

    title: frames.Title | None = None
    status: Status | None = None
    metadata: msgspec.Raw = frames.ABSENT
    ttl: frames.Ttl | None = None
    ttl_hours: TtlHours | None = None
    persistent: bool | None = None


class SessionRoutes:
    """The list of one's sessions, its growth, and each session by itself."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(self, request: Request) -> Response:
        """GET /sessions?before=&limit= — latest first; `next` continues the list, null at its end."""
        identity = await identify(request, self._services)
        before = position(request)
        limit = limit_of(request, default=_PAGE, most=_MAX_PAGE)
        rows = await self._services.sessions.list_for(identity, before, limit)
        following = mark_of(rows[-1]) if len(rows) == limit else None
        return answer({"sessions": [listing(row) for row in rows], "next": following})

    async def create(self, request: Request) -> Response:
        """POST /sessions — start one; its caller owns it."""
        identity = await identify(request, self._services)
        spec = _spec(await decode_body(request, NewSessionBody), self._services.limits)
        session = await self._services.sessions.create(identity, spec)
        data = {"session": session_in_full(session)}
        return answer(data, status=201, message="Session created successfully", headers=version_tag(session))

    async def get(self, request: Request) -> Response:
        """GET /sessions/{id}?messages= — the session and its latest messages, as far as they can be read."""
        identity = await identify(request, self._services)
        id = session_of(request)
        wanted = number_of(request, "messages", least=0, most=_MAX_MESSAGES)
        wanted = _MAX_MESSAGES if wanted is None else wanted
        session, role = await self._services.sessions.get(identity, id)
        data: dict[str, object] = {"session": {**session_in_full(session), "role": role}}
        if wanted:
            try:
                page = await self._services.messages.page(
                    identity, id, before=session.head + 1, after=None, limit=wanted
                )
                data |= {"messages": [message_in_full(each) for each in page.messages], "more": page.more}
            except Unavailable:
                # None, not an empty list: nobody knows of any, which is not that there are none.
                warning = "The messages could not be read: ask for them alone, in a moment."
                data |= {"messages": None, "more": None, "warnings": [warning]}
        return answer(data, headers=version_tag(session))

    async def update(self, request: Request) -> Response:
        """PATCH /sessions/{id} — change what is given; with If-Match, of that version only."""
        identity = await identify(request, self._services)
        id = session_of(request)
        version = expected_version(request)
        change = _change(await decode_body(request, SessionChange), self._services.limits)
        return await self._changed(identity, id, change, version)

    async def put_context(self, request: Request) -> Response:
        """PUT /sessions/{id}/context — replace it as a whole; with If-Match, of that version only."""
        identity = await identify(request, self._services)
        id = session_of(request)
        version = expected_version(request)
        context = context_of(await decode_body(request, msgspec.Raw), self._services.limits)
        return await self._changed(identity, id, Change(context=context), version)

    async def delete(self, request: Request) -> Response:
        """DELETE /sessions/{id} — end it and show it to nobody any more. Asked again: it is deleted."""
        identity = await identify(request, self._services)
        session = await self._services.sessions.delete(identity, session_of(request))
        return answer({"session": session_summary(session)}, message="Session deleted")

    async def _changed(self, identity: Identity, id: str, change: Change, version: int | None) -> Response:
        try:
            session = await self._services.sessions.update(identity, id, change, version)
        except Conflict as conflict:
            raise PreconditionFailed(conflict.message) from conflict
        data = {"session": session_in_full(session)}
        return answer(data, message="Session updated", headers=version_tag(session))


def _change(body: SessionChange, limits: Limits) -> Change:
    ttl_s = _ttl_s(body.ttl, body.ttl_hours)
    if body.persistent and ttl_s is not None:
        raise Unprocessable("A persistent session has no ttl: leave one of the two out.")
    if body.persistent is False and ttl_s is None:
        raise Unprocessable("A session that is not persistent has a ttl: give it, in seconds.")
    change = Change(
        title=body.title,
        status=body.status,
        metadata=document_of("metadata", body.metadata, limits),
        ttl_s=0 if body.persistent else ttl_s,
    )
    if change == Change():
        raise Unprocessable("Nothing to change: give title, status, metadata, ttl, ttl_hours or persistent.")
    return change


def _ttl_s(ttl: int | None, hours: float | None) -> int | None:
    return max(1, round(hours * 3600)) if ttl is None and hours is not None else ttl


def _spec(body: NewSessionBody, limits: Limits) -> SessionSpec:
    ttl_s = _ttl_s(body.ttl, body.ttl_hours)
    if body.persistent and ttl_s is not None:
        raise Unprocessable("A persistent session has no ttl: leave one of the two out.")
    if body.text is not None and len(body.text.encode()) > limits.message_bytes:
        raise TooLarge(f"text is at most {limits.message_bytes} bytes.")
    if not all(is_name(member.user) for member in body.members):
        raise Unprocessable("A user's name is 1 to 64 letters, digits or any of _ . : -")
    members: list[tuple[str, Role]] = [(member.user, member.role) for member in body.members]
    return SessionSpec(
        title=body.title,
        persistent=body.persistent,
        ttl_s=ttl_s,
        exclusive=body.exclusive,
        context=document_of("context", body.context, limits) or EMPTY_OBJECT,
        metadata=document_of("metadata", body.metadata, limits) or EMPTY_OBJECT,
        text=body.text,
        voice=body.voice,
        members=tuple(members),
    )
